// The units of a taste by their ids, asked for once: people know "unit-2", not a digest.

import { call } from "../data/connect.js";
import { t } from "../i18n/i18n.js";
import { taste } from "../prefs.js";

let of = "";
let known = null;

export function models(fresh = false) {
  if (!known || fresh || of !== taste()) {
    of = taste();
    known = all().catch((error) => {
      known = null;
      throw error;
    });
  }
  return known;
}

async function all() {
  const found = [];
  let pageToken = "";
  do {
    const page = await call("TrainerService/ListModels", { taste: taste(), pageSize: 1000, pageToken });
    found.push(...(page.models ?? []));
    pageToken = page.nextPageToken ?? "";
  } while (pageToken);
  return found;
}

// Says whether a rater scores yet; without one nothing asks for scores.
export async function isFitted() {
  return Boolean((await call("RaterService/GetTaste", { name: taste() })).activeRaterVersion);
}

export const idOf = (model) => model.name.replace("models/", "");

export async function unitName(unit) {
  if (!unit) return "";
  if (unit === "base") return t("base");
  const found = (await models().catch(() => [])).find((model) => idOf(model) === unit);
  return found?.displayName || unit.slice(0, 12);
}
