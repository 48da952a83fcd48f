// The long tail: the far and plausible in one row, and the islands: what was liked more than expected.

import { call } from "./connect.js";
import { chip, openDetail } from "./detail.js";
import { h, replace, toast } from "./dom.js";
import { decimal, t } from "./i18n.js";
import { GRADES, LETTERS, numberOf, record, undo } from "./labels.js";
import { isFitted } from "./models.js";
import { named, small, thumb } from "./picture.js";
import { taste } from "./prefs.js";

const AT_ONCE = 12;
const ISLANDS = 3;
const NEIGHBOURS = 10;
const SURPRISE = 0.5;

export async function show(main, current) {
  const view = new Tail(main, current);
  await view.begin();
  return view;
}

class Tail {
  constructor(main, current) {
    this.main = main;
    this.current = current;
    this.images = [];
    this.from = 0;
    this.at = 0;
    this.past = [];
  }

  async begin() {
    this.row = h("ul", { class: "row" });
    this.more = h("button", { click: () => { this.from += AT_ONCE; this.paint(true); } }, t("more"));
    const islands = h("div", {});
    replace(this.main, h("div", { class: "sheet quiet-keys" }, h("h1", {}, t("tail")), h("p", { class: "lead" }, t("tail_lead")),
      h("h2", {}, t("different")), this.row, h("p", {}, this.more), h("h2", {}, t("islands")), h("p", { class: "small" }, t("islands_lead")), islands));
    const found = await call("RaterService/ExploreNovelty", { taste: taste(), count: 8 * AT_ONCE });
    this.images = found.images ?? [];
    this.paint();
    await this.islands(islands);
  }

  paint(focus = false) {
    const shown = this.images.slice(this.from, this.from + AT_ONCE);
    this.more.hidden = this.images.length <= this.from + AT_ONCE;
    if (!shown.length) return replace(this.row, h("li", {}, t("tail_none")));
    replace(this.row, shown.map((image, place) => h("li", {}, this.tile(image, place))));
    this.at = Math.min(this.at, shown.length - 1);
    if (focus) this.buttons()[this.at]?.focus();
    return this.row;
  }

  buttons() {
    return [...this.row.querySelectorAll(".tile")];
  }

  tile(image, place) {
    const grade = numberOf(image.grade);
    const score = image.score;
    return h("button", { class: "tile", "aria-label": `${named(image)}, ${grade ? LETTERS[grade] : t("not_graded")}`, focus: () => { this.at = place; }, click: () => openDetail(image.digest, this.current) },
      h("img", { src: thumb(image.digest), alt: "" }), grade ? chip(grade) : null,
      h("span", { class: "under" }, h("span", {}, score ? t("expected", { score: decimal(score.utility ?? 0, 1) }) : ""), h("span", {}, score ? `${t("novelty")} ${decimal(score.novelty ?? 0, 2)}` : "")));
  }

  async islands(place) {
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
      if (shown.length === ISLANDS || !this.current()) break;
      if (taken.has(centre.digest)) continue;
      const { hits = [] } = await call("RaterService/SearchImages", { taste: taste(), image: { digest: centre.digest }, count: NEIGHBOURS + 1 });
      hits.forEach((hit) => taken.add(hit.image.digest));
      shown.push(h("section", { class: "island" },
        h("button", { class: "tile", "aria-label": named(centre), click: () => openDetail(centre.digest, this.current) },
          h("img", { src: thumb(centre.digest), alt: "" }), chip(numberOf(centre.grade)), h("span", { class: "under" }, t("expected", { score: decimal(centre.score.utility, 1) }))),
        h("ul", { class: "strip" }, hits.filter((hit) => hit.image.digest !== centre.digest).map((hit) => h("li", {},
          h("button", { "aria-label": named(hit.image), click: () => openDetail(hit.image.digest, this.current) },
            h("img", { src: small(hit.image.digest), alt: "" }), numberOf(hit.image.grade) ? chip(numberOf(hit.image.grade)) : null))))));
    }
    replace(place, shown.length ? shown : h("p", { class: "small" }, t("islands_none")));
  }

  async grade(number) {
    const image = this.images[this.from + this.at];
    if (!image || this.busy) return;
    this.busy = true;
    try {
      const before = image.grade;
      this.past.push({ image, before, receipt: await record(image.digest, number, "SUGGESTION_REASON_NOVEL") });
      image.grade = GRADES[number] || undefined;
      this.at += number ? 1 : 0;
      this.paint(true);
      toast(number ? LETTERS[number] : t("cleared"));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
    }
  }

  async undo() {
    if (this.busy) return;
    this.busy = true;
    try {
      const last = this.past.pop();
      const entry = await undo(last?.receipt);
      if (last) last.image.grade = last.before;
      this.at = last ? Math.max(0, this.images.indexOf(last.image) - this.from) : this.at;
      this.paint(true);
      toast(entry ? t("undone") : t("nothing_to_undo"));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
    }
  }

  key(name) {
    const across = Math.max(1, getComputedStyle(this.row).gridTemplateColumns.split(" ").length);
    const steps = { left: -1, right: 1, up: -across, down: across, space: 1 };
    if (/^[0-5]$/.test(name)) this.grade(Number(name));
    else if (name === "z") this.undo();
    else if (name in steps) {
      this.at = Math.min(this.buttons().length - 1, Math.max(0, this.at + steps[name]));
      this.buttons()[this.at]?.focus();
    } else if (name === "enter") openDetail(this.images[this.from + this.at]?.digest, this.current);
    else return false;
    return true;
  }
}
