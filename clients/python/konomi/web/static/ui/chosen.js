// Images chosen in the library, and the bar of what may be done with all of them at once.

import { many, t } from "../i18n/i18n.js";
import { LETTERS } from "../data/labels.js";
import { h, replace, toast } from "./dom.js";

export const MOST = 1000;

export class Chosen {
  // `acts`: { grade(number), favour(), download(), done() }, each for all that are chosen.
  constructor(acts) {
    this.images = new Map();
    this.acts = acts;
    this.words = h("span", { role: "status" });
    const button = (word, act) => h("button", { click: act }, t(word));
    this.bar = h("div", { class: "filters chosen", role: "group", "aria-label": t("chosen_bar"), hidden: true }, this.words,
      h("span", { class: "group" }, [1, 2, 3, 4, 5, 0].map((grade) => h("button", {
        class: `toggle ${grade ? `g${grade}` : ""}`, "aria-label": grade ? t("chosen_grade", { grade: LETTERS[grade] }) : t("chosen_clear_grade"), click: () => acts.grade(grade),
      }, LETTERS[grade]))),
      button("favourite", acts.favour), button("copy_digests", () => copy([...this.images.keys()].join("\n"))), button("download", acts.download), button("chosen_none", acts.done));
    this.show();
  }

  get size() { return this.images.size; }

  has(digest) { return this.images.has(digest); }

  all() { return [...this.images.values()]; }

  set(image, on) {
    if (!on) this.images.delete(image.digest);
    else if (this.size < MOST) this.images.set(image.digest, image);
    else toast(t("chosen_most", { n: MOST }), "bad");
    this.show();
  }

  clear() {
    this.images.clear();
    this.show();
  }

  show() {
    this.bar.hidden = !this.size;
    replace(this.words, this.size ? many("images_chosen", this.size) : "");
  }
}

// Puts words on the clipboard, and says so.
export async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
    toast(t("copied", { words: words.length > 60 ? `${words.slice(0, 60)}…` : words }));
  } catch (error) {
    toast(t("problem", { why: error.message }), "bad");
  }
}

export const copying = (word, words) => h("button", { class: "small", click: () => copy(words) }, t(word));
