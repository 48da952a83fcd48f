import { h, replace } from "./dom.js";
import { t } from "./i18n.js";
export async function show(main) { replace(main, h("h1", {}, t("taste"))); return null; }
