// The long tail: a slate of the likely, the doubtful and the far; the farthest of all; the islands found so far.

import { call } from "../../data/connect.js";
import { chip, openDetail } from "../detail.js";
import { h, replace, toast } from "../../ui/dom.js";
import { decimal, percent, t, whole } from "../../i18n/i18n.js";
import { showIslands } from "./islands.js";
import { GRADES, LETTERS, numberOf, record, undo } from "../../data/labels.js";
import { named, thumb } from "../../ui/picture.js";
import { due, nextStep } from "../../ui/next.js";
import { taste } from "../../prefs.js";

const AT_ONCE = 12;
const SLATE = 20;
const LEAST_SHOWINGS = 20;  // liked ones from which the share not seen yet is more than chance
const FAR = "SUGGESTION_REASON_NOVEL";
const PARTS = [["SUGGESTION_REASON_EXPLOIT", "slate_likely"], ["SUGGESTION_REASON_UNCERTAIN", "slate_doubtful"], [FAR, "different"]];

let drawn = { taste: "", items: [] };  // a slate stays until another is asked for: what was drawn counts as shown

export async function show(main, current) {
  const view = new Tail(main, current);
  await view.begin();
  return view;
}

class Tail {
  constructor(main, current) {
    this.main = main;
    this.current = current;
    this.slate = [];   // { image, reason }, as drawn
    this.explored = [];  // the same, farthest first
    this.from = 0;
    this.at = 0;       // place among all tiles on the page
    this.past = [];
  }

  async begin() {
    this.parts = h("div", { class: "slate" });
    this.row = h("ul", { class: "row" });
    this.more = h("button", { click: () => { this.from += AT_ONCE; this.at = this.slate.length + this.at % AT_ONCE; this.paint(true); } }, t("more"));
    this.other = h("button", { click: () => this.draw(true) }, t("slate_more"));
    const islands = h("div", {});
    const found = h("p", { class: "small" });
    replace(this.main, h("div", { class: "sheet quiet-keys" }, h("h1", {}, t("tail")), h("p", { class: "lead" }, t("tail_lead")),
      h("h2", {}, t("slate")), h("p", { class: "small" }, t("slate_lead")), this.parts, h("p", {}, this.other),
      h("h2", {}, t("farthest")), this.row, h("p", {}, this.more),
      h("h2", {}, t("islands")), found, h("p", { class: "small" }, t("islands_lead")), islands));
    const explored = call("RaterService/ExploreNovelty", { taste: taste(), count: 8 * AT_ONCE });
    await this.draw(false);
    const { images = [], discovery } = await explored;
    this.explored = images.map((image) => ({ image, reason: FAR }));
    if (discovery) found.textContent = this.told(discovery);
    this.paint();
    // What stands below comes when it comes: until a view has begun, its keys do nothing.
    showIslands(islands, this.current).catch((error) => replace(islands, h("p", {}, t("problem", { why: error.message }))));
  }

  told({ islands = [], unseenLikes = 0, likedShowings = 0, labelsSinceIsland = 0 }) {
    const words = [t("slate_found", { n: whole(islands.length), labels: whole(labelsSinceIsland) })];
    if (Number(likedShowings) >= LEAST_SHOWINGS) words.push(t("slate_unseen", { share: percent(unseenLikes) }));
    return words.join(" ");
  }

  async draw(another) {
    if (another || drawn.taste !== taste()) {
      this.other.disabled = true;
      try {
        const { suggestions = [] } = await call("RaterService/SuggestImages", { taste: taste(), slate: true, count: SLATE });
        drawn = { taste: suggestions.length ? taste() : "", items: suggestions.map(({ image, reason }) => ({ image, reason })) };
      } finally {
        this.other.disabled = false;
      }
    }
    this.slate = drawn.items;
    this.at = 0;
    if (!another) return;
    this.past = this.past.filter((entry) => this.explored.includes(entry.item));
    this.paint(true);
  }

  get far() {
    const inSlate = new Set(this.slate.map((item) => item.image.digest));
    return this.explored.filter((item) => !inSlate.has(item.image.digest));
  }

  get shown() {
    return [...this.slate, ...this.far.slice(this.from, this.from + AT_ONCE)];
  }

  paint(focus = false) {
    this.more.hidden = this.far.length <= this.from + AT_ONCE;
    this.other.hidden = !this.slate.length;
    const ofPart = PARTS.map(([reason, word]) => [word, this.slate.filter((item) => item.reason === reason)]).filter(([, items]) => items.length);
    this.slate = drawn.items = ofPart.flatMap(([, items]) => items);
    const tiles = this.shown.map((item, place) => h("li", {}, this.tile(item, place)));
    replace(this.parts, this.slate.length ? ofPart.map(([word, items]) => h("section", {}, h("h3", {}, t(word)), h("ul", { class: "row" }, tiles.splice(0, items.length))))
      : h("p", {}, t("slate_none")));
    replace(this.row, tiles.length ? tiles : h("li", { class: "none" }, t("tail_none")));
    if (!this.shown.length && !this.next) due().then((step) => this.parts.after(this.next = nextStep(step)));
    else if (this.shown.length) this.next = this.next?.remove();
    this.at = Math.max(0, Math.min(this.at, this.shown.length - 1));
    if (focus) this.buttons()[this.at]?.focus();
  }

  buttons() {
    return [...this.main.querySelectorAll(".row .tile")];
  }

  // A slate says nothing of what is expected: its grades are the proof, and must not be talked into agreeing.
  tile({ image, reason }, place) {
    const grade = numberOf(image.grade);
    const score = image.score;
    return h("button", { class: "tile", "data-reason": reason, "aria-label": `${named(image)}, ${grade ? LETTERS[grade] : t("not_graded")}`, focus: () => { this.at = place; }, click: () => openDetail(image.digest, this.current) },
      h("img", { src: thumb(image.digest), alt: "" }), grade ? chip(grade) : null,
      score ? h("span", { class: "under" }, h("span", {}, t("expected", { score: decimal(score.utility ?? 0, 1) })), h("span", {}, `${t("novelty")} ${decimal(score.novelty ?? 0, 2)}`)) : null);
  }

  async grade(number) {
    const item = this.shown[this.at];
    if (!item || this.busy) return;
    this.busy = true;
    try {
      const { image, reason } = item;
      const before = image.grade;
      this.past.push({ item, before, receipt: await record(image.digest, number, reason) });
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
      if (last) last.item.image.grade = last.before;
      this.at = last ? Math.max(0, this.shown.indexOf(last.item)) : this.at;
      this.paint(true);
      toast(entry ? t("undone") : t("nothing_to_undo"));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
    }
  }

  // Up and down go to the tile that lies nearest there, over the edges of the parts.
  move(name) {
    const tiles = this.buttons();
    const step = { left: -1, right: 1, space: 1 }[name];
    if (step) return this.focus(this.at + step);
    const places = tiles.map((tile) => tile.getBoundingClientRect());
    const here = places[this.at];
    const far = (place) => (name === "down" ? place.top - here.top : here.top - place.top);
    const others = places.map((place, index) => [far(place) + Math.abs(place.left - here.left) / 1e4, index]).filter(([distance]) => distance > 1);
    return others.length ? this.focus(others.sort((a, b) => a[0] - b[0])[0][1]) : undefined;
  }

  focus(place) {
    this.at = Math.max(0, Math.min(this.shown.length - 1, place));
    this.buttons()[this.at]?.focus();
  }

  key(name) {
    if (/^[0-5]$/.test(name)) this.grade(Number(name));
    else if (name === "z") this.undo();
    else if (["left", "right", "up", "down", "space"].includes(name)) this.move(name);
    else if (name === "enter" && this.shown.length) openDetail(this.shown[this.at].image.digest, this.current);
    else return false;
    return true;
  }
}
