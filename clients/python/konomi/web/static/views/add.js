// More pictures: dropped, pasted or chosen, at any time.

import { due, nextStep } from "../ui/next.js";
import { h, replace } from "../ui/dom.js";
import { t } from "../i18n/i18n.js";
import { uploader } from "../ui/uploader.js";

export async function show(main, current) {
  const after = h("div", {});
  const ended = async (job) => {
    const step = job.status?.added || job.status?.already_known ? await due() : "";
    if (current()) replace(after, step && step !== "pictures" ? nextStep(step) : null);
  };
  const way = uploader(ended);
  replace(main, h("div", { class: "sheet" }, h("h1", {}, t("add")), h("p", { class: "lead" }, t("add_lead")), way.element, after));
  return way;
}
