// The islands: what was graded higher than the rater expected, each with its neighbours.

import { call } from "../../data/connect.js";
import { chip, openDetail } from "../detail.js";
import { h, replace } from "../../ui/dom.js";
import { decimal, t } from "../../i18n/i18n.js";
import { numberOf } from "../../data/labels.js";
import { isFitted } from "../../ui/models.js";
import { named, small, thumb } from "../../ui/picture.js";
import { taste } from "../../prefs.js";

const ISLANDS = 3;
const NEIGHBOURS = 10;
const SURPRISE = 0.5;

export async function showIslands(place, current) {
  const filter = { grades: ["GRADE_SSR", "GRADE_UR"] };
  let liked = [];
  if (await isFitted()) {
    liked = (await call("RaterService/ListImages", { taste: taste(), filter, orderBy: "utility", pageSize: 60, withScores: true })).images ?? [];
  }
  const surprise = (image) => numberOf(image.grade) - (image.score?.utility ?? 5);
  const centres = liked.filter((image) => image.score && surprise(image) > SURPRISE).sort((a, b) => surprise(b) - surprise(a));
  const taken = new Set();
  const shown = [];
  for (const centre of centres) {
    if (shown.length === ISLANDS || !current()) break;
    if (taken.has(centre.digest)) continue;
    const { hits = [] } = await call("RaterService/SearchImages", { taste: taste(), image: { digest: centre.digest }, count: NEIGHBOURS + 1 });
    hits.forEach((hit) => taken.add(hit.image.digest));
    shown.push(h("section", { class: "island" },
      h("button", { class: "tile", "aria-label": named(centre), click: () => openDetail(centre.digest, current) },
        h("img", { src: thumb(centre.digest), alt: "" }), chip(numberOf(centre.grade)), h("span", { class: "under" }, t("expected", { score: decimal(centre.score.utility, 1) }))),
      h("ul", { class: "strip" }, hits.filter((hit) => hit.image.digest !== centre.digest).map((hit) => h("li", {},
        h("button", { "aria-label": named(hit.image), click: () => openDetail(hit.image.digest, current) },
          h("img", { src: small(hit.image.digest), alt: "" }), numberOf(hit.image.grade) ? chip(numberOf(hit.image.grade)) : null))))));
  }
  replace(place, shown.length ? shown : h("p", { class: "small" }, t("islands_none")));
}
