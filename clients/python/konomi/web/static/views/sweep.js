// The sweep: N or not, without a pause. A key shows the next image at once; what it said counts once it is durable.

import { call } from "../data/connect.js";
import { Batches } from "../data/batches.js";
import { openDetail } from "./detail.js";
import { t, whole } from "../i18n/i18n.js";
import { h, replace, toast } from "../ui/dom.js";
import { LETTERS } from "../data/labels.js";
import { isFitted } from "../ui/models.js";
import { due, nextStep } from "../ui/next.js";
import { painted, prepared } from "../ui/picture.js";
import { hint, onSwipe } from "../ui/swipe.js";
import { taste } from "../prefs.js";

const PREFETCH = 12;
const AT_ONCE = 60;

export async function show(main, current) {
  const view = new Sweep(main, current);
  await view.begin();
  return view;
}

class Sweep {
  constructor(main, current) {
    this.main = main;
    this.current = current;
    this.due = [];
    this.past = [];   // { image, entry } where a grade was given, { image } where it was left
    this.seen = new Set();
    this.token = "";
    this.ended = false;
    this.saved = 0;
    this.batches = new Batches((error, entries) => this.settled(error, entries));
  }

  async begin() {
    this.order = await isFitted() ? "utility" : "create_time";
    await this.fetch();
    if (!this.current()) return;
    this.frame = h("div", { class: "frame" });
    this.caption = h("p", { class: "caption" });
    this.count = h("p", { class: "count", role: "status" });
    const big = (number, word, key, act) => h("button", { class: `g g${number}`, "data-act": word, click: act }, h("b", {}, t(word)), h("kbd", { "aria-hidden": "true" }, key));
    this.bar = h("div", { class: "grades two-keys quiet-keys", role: "group", "aria-label": t("sweep") }, big(1, "sweep_n", "1", () => this.say(1)), big(0, "sweep_keep", "Space", () => this.keep()));
    const tool = (word, key, act) => h("button", { class: "plain", "data-tool": word, click: act }, t(word), h("kbd", { "aria-hidden": "true" }, key));
    this.tools = h("div", { class: "act quiet-keys" }, tool("undo", "z", () => this.undo()), tool("details", "Enter", () => this.detail()));
    replace(this.main, h("h1", { class: "unseen" }, t("sweep")), h("section", { class: "rate sweep" },
      h("div", { class: "over" }, this.count, h("a", { class: "button plain", href: "#rate" }, t("sweep_end"))),
      h("p", { class: "small" }, t(this.order === "utility" ? "sweep_lead" : "sweep_lead_old")),
      h("figure", { "aria-label": t("image_to_grade") }, this.frame, h("figcaption", {}, this.caption)),
      hint([["←", LETTERS[1]], ["→", t("sweep_keep")]]), this.bar, this.tools));
    onSwipe(this.frame, { left: () => this.say(1), right: () => this.keep(), down: () => this.keep() });
    this.warn = (event) => { if (this.batches.open) event.preventDefault(); };
    addEventListener("beforeunload", this.warn);
    await this.paint();
  }

  // Images without a grade, those the rater expects least of first; each once in a sweep.
  fetch() {
    this.fetching ??= this.more().finally(() => { this.fetching = null; });
    return this.fetching;
  }

  async more() {
    while (!this.ended && this.due.length < AT_ONCE) {
      const asked = { taste: taste(), filter: { grades: ["GRADE_UNSPECIFIED"] }, orderBy: this.order, pageSize: AT_ONCE, pageToken: this.token };
      let page;
      try {
        page = await call("RaterService/ListImages", asked);
      } catch (error) {
        if (error.code !== "invalid_argument" || !this.token) throw error;
        this.token = "";  // a new rater has put them in another order
        continue;
      }
      const images = (page.images ?? []).filter((image) => !image.pixelsCollected && !this.seen.has(image.digest));
      for (const image of images) this.seen.add(image.digest);
      this.due.push(...images);
      this.token = page.nextPageToken ?? "";
      this.ended = !this.token;
    }
    this.prefetch();
  }

  prefetch() {
    for (const image of this.due.slice(0, PREFETCH)) prepared(image);
  }

  get image() {
    return this.due[0];
  }

  async paint() {
    this.look(false);  // until it is on the screen no key is about it
    this.tell();
    const image = this.image;
    for (const button of this.bar.children) button.disabled = !image;
    if (!image) {
      const step = await due();
      replace(this.frame, h("div", { class: "empty" }, h("h2", {}, t("sweep_done")), nextStep(this.seen.size ? "grade" : step)));
      this.caption.textContent = "";
      delete this.main.dataset.digest;
      this.frame.removeAttribute("aria-busy");
      return;
    }
    const picture = prepared(image);
    await picture.whenReady;
    if (this.image !== image) return;
    if (this.frame.firstChild !== picture) replace(this.frame, picture);
    this.caption.textContent = image.prompt || t("no_prompt");
    this.main.dataset.digest = image.digest;
    await painted();
    this.look(this.image === image);
  }

  look(seen) {
    this.looked = seen;
    if (seen) this.frame.removeAttribute("aria-busy");
    else this.frame.setAttribute("aria-busy", "true");
  }

  tell() {
    const kept = this.past.filter((one) => !one.entry).length;
    const words = [t("sweep_saved", { n: whole(this.saved) })];
    if (this.batches.open) words.push(t("sweep_going", { n: whole(this.batches.open) }));
    words.push(t("sweep_kept", { n: whole(kept) }));
    this.count.textContent = words.join(" · ");
  }

  say(number) {
    if (!this.image || !this.looked) return;
    const image = this.due.shift();
    const entry = { digest: image.digest, number };
    this.past.push({ image, entry });
    this.batches.add(entry);
    this.advance();
  }

  keep() {
    if (!this.image || !this.looked) return;
    this.past.push({ image: this.due.shift() });
    this.advance();
  }

  advance() {
    this.look(false);
    const short = this.due.length <= 2 * PREFETCH && !this.ended;
    const more = short ? this.fetch() : Promise.resolve(this.prefetch());
    more.catch((error) => toast(t("problem", { why: error.message }), "bad"));
    if (this.image || this.ended) this.paint();
    else more.then(() => this.paint()).catch(() => {});
  }

  // Durable, or refused: then the images come back, because nobody has their grade.
  settled(error, entries) {
    if (!error) this.saved += entries.length;
    else {
      const lost = new Set(entries);
      const back = this.past.filter((one) => lost.has(one.entry)).map((one) => one.image);
      this.past = this.past.filter((one) => !lost.has(one.entry));
      this.due = [...back, ...this.due];
      const words = error.code === "resource_exhausted" && error.message === "outbox full" ? t("outbox_full") : t("problem", { why: error.message });
      toast(`${words} ${t("sweep_lost", { n: whole(back.length) })}`, "bad");
      if (this.current()) this.paint();
    }
    if (this.current()) this.tell();
  }

  async undo() {
    const last = this.past.at(-1);
    if (!last || this.undoing) {
      if (!last) toast(t("nothing_to_undo"));
      return;
    }
    this.undoing = true;
    try {
      if (last.entry) {
        await this.batches.takeBack(last.entry);
        if (last.entry.saved) this.saved -= 1;
      }
      if (this.past.includes(last)) {
        this.past.splice(this.past.indexOf(last), 1);
        this.due.unshift(last.image);
      }
      await this.paint();
      toast(t("undone"));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.undoing = false;
    }
  }

  detail() {
    if (this.image) openDetail(this.image.digest, () => this.current());
  }

  leave() {
    removeEventListener("beforeunload", this.warn);
  }

  key(name) {
    if (/^[1-5]$/.test(name)) this.say(Number(name));
    else if (name === "space") this.keep();
    else if (name === "z") this.undo();
    else if (name === "enter") this.detail();
    else if (name === "s" || name === "escape") location.hash = "rate";
    else return false;
    return true;
  }
}
