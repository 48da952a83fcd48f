// What a grid of images can do with several at once: choose them, grade, undo, keep in mind and download.

import { h, toast } from "./dom.js";
import { brief, many, t } from "../i18n/i18n.js";
import { GRADES, LETTERS, recordAll } from "../data/labels.js";
import { Chosen } from "./chosen.js";
import { favourites, turn } from "./favourites.js";
import { fileName, full } from "./picture.js";
import { set } from "../prefs.js";

export const PAGE = 120;
export const SIZES = [96, 132, 176, 240];

// Whoever extends it has a `grid`, `pages` of PAGE images each, `ask(page)`, `imageAt(index)` and the `past` for undoing.
export class ChoosingView {
  constructor() {
    this.choosing = false;  // a tap chooses, for those who have no keys
    this.chosen = new Chosen({ grade: (number) => this.gradeAll(number), favour: () => this.favour(), download: () => this.download(), done: () => this.chooseNone() });
    this.kept = new Set(favourites());
  }

  bar() {
    const input = h("input", { type: "number", min: 1, id: "jump-to", inputmode: "numeric" });
    const jump = () => { if (input.value) { this.grid.jump(Number(input.value) - 1); this.grid.scroller.focus(); } };
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") jump(); });
    const resize = (step) => {
      const place = Math.min(SIZES.length - 1, Math.max(0, SIZES.indexOf(this.grid.size) + step));
      set("cell", String(place));
      this.grid.setSize(SIZES[place]);
    };
    return h("div", { class: "found filters" }, this.found,
      this.choose = h("button", { class: "toggle", "aria-pressed": "false", click: () => this.setChoosing(!this.choosing) }, t("choose")),
      h("label", {}, brief("jump"), input), h("button", { click: jump }, brief("go")),
      h("span", { class: "group", role: "group", "aria-label": t("cell_size") },
        h("button", { "aria-label": t("smaller"), click: () => resize(-1) }, "−"), h("button", { "aria-label": t("larger"), click: () => resize(1) }, "+")));
  }

  clicked(index, event, before) {
    this.grid.scroller.focus();
    if (event.shiftKey) this.chooseBetween(before, index);
    else if (event.ctrlKey || event.metaKey || this.choosing) this.chooseOne(index);
  }

  setChoosing(on) {
    this.choosing = on;
    this.choose.setAttribute("aria-pressed", String(on));
  }

  chooseOne(index) {
    const image = this.imageAt(index);
    if (!image) return;
    this.chosen.set(image, !this.chosen.has(image.digest));
    this.grid.refresh(index);
  }

  // All from one place to another; those that were not loaded yet are.
  async chooseBetween(one, other) {
    const [first, last] = [Math.min(one, other), Math.max(one, other)];
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page += 1) if (!this.pages.has(page)) await this.ask(page);
    for (let index = first; index <= last; index += 1) {
      const image = this.imageAt(index);
      if (image) this.chosen.set(image, true);
      if (image && !this.chosen.has(image.digest)) break;  // there are as many as may be
    }
    this.grid.refresh();
  }

  chooseNone() {
    this.chosen.clear();
    this.setChoosing(false);
    this.grid.refresh();
    this.grid.scroller.focus();
  }

  // Those chosen, else the one the keys are at.
  meant() {
    const image = this.imageAt(this.grid.at);
    return this.chosen.size ? this.chosen.all() : [image].filter(Boolean);
  }

  async gradeAll(number) {
    const images = this.chosen.all();
    if (this.busy || !images.length) return;
    this.busy = true;
    try {
      const before = images.map((image) => image.grade);
      const receipts = await recordAll(images.map((image) => image.digest), number);
      for (const image of images) this.regraded(image, GRADES[number] || undefined);
      this.past.push({ images, before, receipts });
      toast(`${LETTERS[number]} · ${many("graded_together", images.length)}`);
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
    }
    this.chooseNone();
  }

  // The page an image was on may have been loaded anew since it was chosen.
  regraded(image, grade) {
    image.grade = grade;
    for (const page of this.pages.values()) for (const one of page) if (one.digest === image.digest) one.grade = grade;
  }

  async favour() {
    const images = this.meant();
    if (!images.length) return;
    try {
      const on = await turn(images.map((image) => image.digest));
      toast(t(on ? "favourite_added" : "favourite_gone"));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    }
    this.refavoured();
  }

  refavoured() {
    this.kept = new Set(favourites());
    this.grid.refresh();
  }

  download() {
    for (const image of this.meant()) {
      const link = h("a", { href: full(image.digest), download: fileName(image) || image.digest.slice(0, 16) });
      document.body.append(link);
      link.click();
      link.remove();
    }
  }
}
