// Pick k of nine: what is picked is preferred to what is not.

import { call } from "../data/connect.js";
import { chip, openDetail } from "./detail.js";
import { h, replace, toast } from "../ui/dom.js";
import { many, t, whole } from "../i18n/i18n.js";
import { GRADES, LETTERS, compare, numberOf, record, undo, undoComparison } from "../data/labels.js";
import { named, painted, thumb } from "../ui/picture.js";
import { due, nextStep } from "../ui/next.js";
import { taste } from "../prefs.js";

const SHOWN = 9;
const ACROSS = 3;

export async function show(main, current) {
  const view = new Pick(main, current);
  await view.begin();
  return view;
}

class Pick {
  constructor(main, current) {
    this.main = main;
    this.current = current;
    this.images = [];
    this.next = null;
    this.picked = new Set();
    this.past = [];
    this.at = 0;
    this.busy = false;
    this.turn = Math.floor(Math.random() * 2 ** 31);
  }

  async begin() {
    this.grid = h("div", { class: "nine", role: "group", "aria-label": t("pick_grid") });
    this.told = h("p", { class: "count", role: "status" });
    replace(this.main, h("h1", { class: "unseen" }, t("pick")),
      h("section", { class: "picks" }, h("h2", {}, t("pick_question")), h("p", { class: "small" }, t("pick_hint")), this.grid, this.told,
        h("div", { class: "act quiet-keys" }, h("button", { class: "primary", click: () => this.goOn() }, t("pick_done"), h("kbd", { "aria-hidden": "true" }, "Space")),
          h("button", { class: "plain", click: () => this.undo() }, t("undo"), h("kbd", { "aria-hidden": "true" }, "z")))));
    this.images = await this.fetch();
    this.paint();
    this.grid.children[0]?.focus();
  }

  async fetch() {
    this.turn += 1;
    const { suggestions = [] } = await call("RaterService/SuggestImages", { taste: taste(), count: SHOWN, seed: this.turn, noRepeats: true });
    const images = suggestions.map((one) => one.image);
    for (const image of images) new Image().src = thumb(image.digest);
    return images;
  }

  paint() {
    if (!this.images.length) {
      const none = h("div", { class: "empty" }, h("p", {}, t("empty_title")));
      replace(this.grid, none);
      due().then((step) => none.append(nextStep(step === "grade" ? "pictures" : step)));
      return;
    }
    replace(this.grid, this.images.map((image, place) => h("button", {
      "aria-pressed": String(this.picked.has(image.digest)), "aria-label": named(image), class: "quiet-keys",
      click: () => { this.at = place; this.toggle(); }, focus: () => { this.at = place; },
    }, h("img", { src: thumb(image.digest), alt: "" }), numberOf(image.grade) ? chip(numberOf(image.grade)) : null)));
    this.tell();
    this.next ??= this.fetch();
  }

  tell() {
    this.told.textContent = t("picked", { n: whole(this.picked.size), of: whole(this.images.length) });
  }

  async act(work) {
    if (this.busy) return;
    this.busy = true;
    try {
      await work();
      await painted();
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
    }
  }

  toggle() {
    const digest = this.images[this.at]?.digest;
    if (!digest) return;
    if (!this.picked.delete(digest)) this.picked.add(digest);
    this.grid.children[this.at].setAttribute("aria-pressed", String(this.picked.has(digest)));
    this.tell();
  }

  goOn() {
    return this.act(async () => {
      const rest = this.images.filter((image) => !this.picked.has(image.digest));
      const receipts = [];
      for (const winner of this.images.filter((image) => this.picked.has(image.digest))) {
        for (const loser of rest) {
          receipts.push(await compare(winner.digest, loser.digest));
        }
      }
      this.past.push({ images: this.images, picked: this.picked, receipts });
      this.images = await (this.next ?? this.fetch());
      this.next = null;
      this.picked = new Set();
      this.at = 0;
      this.paint();
      this.grid.children[0]?.focus();
      toast(receipts.length ? many("pick_recorded", receipts.length) : t("skipped"));
    });
  }

  grade(number) {
    return this.act(async () => {
      const image = this.images[this.at];
      if (!image) return;
      const before = image.grade;
      const receipt = await record(image.digest, number, "");
      this.images[this.at] = { ...image, grade: GRADES[number] || undefined };
      this.past.push({ place: this.at, before, receipt });
      this.refresh(number ? LETTERS[number] : t("cleared"));
    });
  }

  refresh(said) {
    const place = this.at;
    this.paint();
    this.grid.children[place]?.focus();
    toast(said);
  }

  undo() {
    return this.act(async () => {
      const last = this.past.at(-1);
      if (last?.images) {
        while (last.receipts.length) {
          await undoComparison(last.receipts.at(-1));
          last.receipts.pop();
        }
        this.past.pop();
        [this.images, this.picked, this.at] = [last.images, last.picked, 0];
        this.refresh(t("undone"));
        return;
      }
      const entry = await undo(last?.receipt);
      this.past.pop();
      if (last) this.images[last.place] = { ...this.images[last.place], grade: last.before };
      this.refresh(entry ? t("undone") : t("nothing_to_undo"));
    });
  }

  move(step) {
    this.at = Math.min(this.images.length - 1, Math.max(0, this.at + step));
    this.grid.children[this.at]?.focus();
  }

  key(name) {
    const steps = { left: -1, right: 1, up: -ACROSS, down: ACROSS };
    if (name in steps) this.move(steps[name]);
    else if (name === "enter") this.toggle();
    else if (name === "space") this.goOn();
    else if (name === "z") this.undo();
    else if (name === "d") openDetail(this.images[this.at]?.digest, this.current);
    else if (/^[0-5]$/.test(name)) this.grade(Number(name));
    else return false;
    return true;
  }
}
