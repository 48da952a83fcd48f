// The single view: one image, five grades; each key is durable before the next image is painted.

import { call } from "../data/connect.js";
import { openDetail } from "./detail.js";
import { h, replace, toast } from "../ui/dom.js";
import { brief, many, t, whole } from "../i18n/i18n.js";
import { GRADES, LETTERS, numberOf, record, undo } from "../data/labels.js";
import * as outbox from "../data/outbox.js";
import { full, painted, prepared } from "../ui/picture.js";
import { get, set, taste } from "../prefs.js";
import { keep, kept } from "../data/store.js";
import { due, ENOUGH, nextStep } from "../ui/next.js";
import { hint, onSwipe } from "../ui/swipe.js";
import { Zoom } from "../ui/zoom.js";

const PREFETCH = 8;
const AT_ONCE = 24;
const CARRIED = 200;
const SWEEP = "#rate/sweep";
const REPEAT = "SUGGESTION_REASON_REPEAT_CHECK";

export async function show(main, current) {
  if (location.hash === SWEEP) return (await import("./sweep.js")).show(main, current);
  const view = new Rate(main, current);
  await view.begin();
  return view;
}

class Rate {
  constructor(main, current) {
    this.main = main;
    this.current = current;
    this.due = [];        // still to grade, the one on the screen first
    this.seen = [];       // left behind, newest last: where the arrows lead
    this.past = [];       // what was done here, for undo: { item, receipt | skipped }
    this.back = 0;        // how many steps back is looked at
    this.busy = false;
    this.fetching = null;
    this.state = { graded: 0, known: 0, fitted: false };
  }

  async begin() {
    await this.fetch();
    if (!this.current()) return;
    this.frame = h("div", { class: "frame" });
    this.caption = h("p", { class: "caption" });
    this.count = h("p", { class: "count" });
    this.way = h("a", { class: "count", href: "#guide" });
    this.meter = h("progress", { max: 1, value: 0, "aria-label": brief("rate") });
    this.bar = h("div", { class: "grades quiet-keys", role: "group", "aria-label": t("grade_bar") },
      [1, 2, 3, 4, 5].map((n) => h("button", {
        class: `g g${n}`, "data-grade": n, "aria-label": t("grade_as", { grade: LETTERS[n] }), click: () => this.grade(n),
      }, h("b", {}, LETTERS[n]), h("kbd", { "aria-hidden": "true" }, n))));
    const tool = (word, key, act) => h("button", { class: "plain", click: act, "data-tool": word }, t(word), h("kbd", { "aria-hidden": "true" }, key));
    this.tools = h("div", { class: "act quiet-keys" },
      tool("undo", "z", () => this.undo()), tool("clear", "0", () => this.grade(0)),
      tool("skip", "Space", () => this.skip()), tool("zoom", "x", () => this.zoom.toggle()), tool("details", "Enter", () => this.detail()), tool("sweep", "s", () => { location.hash = SWEEP; }));
    this.carry = h("button", { class: "plain", "aria-pressed": String(Boolean(get("carry"))), click: () => this.toggleCarry() }, t("carry"));
    replace(this.main,
      h("h1", { class: "unseen" }, t("rate")),
      h("section", { class: "rate" },
        h("div", { class: "over" }, this.count, this.way, this.carry), this.meter,
        h("figure", { "aria-label": t("image_to_grade") }, this.frame, h("figcaption", {}, this.caption)),
        hint([["←", LETTERS[1]], ["↑", LETTERS[5]], ["→", LETTERS[4]], ["↓", t("skip")]]), this.bar, this.tools));
    this.zoom = new Zoom([this.frame]);
    this.frame.addEventListener("dblclick", (event) => this.zoom.toggle(this.frame, [event.clientX, event.clientY]));
    onSwipe(this.frame, { right: () => this.grade(4), left: () => this.grade(1), up: () => this.grade(5), down: () => this.skip() }, () => this.zoom.taken);
    await this.paint();
    if (get("carry")) this.carryImages();
  }

  get item() {
    return this.back ? this.seen[this.seen.length - this.back] : this.due[0];
  }

  async fetch(count = AT_ONCE) {
    this.fetching ??= (async () => {
      try {
        const told = await call("Sitting", { taste: taste(), count: get("carry") ? CARRIED + PREFETCH : count });
        this.state = told;
        const lately = outbox.size() ? this.past : this.past.slice(-PREFETCH);  // the answer may be older than they are
        const done = new Set(lately.map((entry) => entry.item.image.digest));
        const held = this.due.slice(0, 1);
        const fresh = (told.images ?? []).filter((item) => item.image.digest !== held[0]?.image.digest && !done.has(item.image.digest));
        this.due = [...held, ...fresh];
        keep("sitting", { taste: taste(), told: { ...told, images: this.due } }).catch(() => {});
      } catch (error) {
        if (!error.isAway || error.code === "unauthenticated") throw error;
        if (!this.due.length) await this.recall();
      } finally {
        this.fetching = null;
      }
    })();
    return this.fetching;
  }

  // Without a connection: what this device was given last, less what was answered since.
  async recall() {
    const last = await kept("sitting").catch(() => null);
    if (last?.taste !== taste()) return;
    const waiting = new Set((await import("../data/store.js").then((store) => store.all())).flatMap((entry) => entry.body.labels ?? []).map((label) => label.imageDigest));
    this.state = last.told;
    this.due = last.told.images.filter((item) => !waiting.has(item.image.digest));
  }

  prefetch() {
    for (const item of this.due.slice(0, PREFETCH + 1)) prepared(item.image);
  }

  async paint(said = "") {
    const item = this.item;
    if (!item) {
      const step = await due();
      const words = step === "pictures" ? "" : "empty_graded";
      replace(this.frame, h("div", { class: "empty" }, h("h2", {}, t("empty_title")), words ? h("p", {}, t(words)) : null, nextStep(step === "grade" ? "pictures" : step)));
      this.caption.textContent = "";
    } else {
      const picture = prepared(item.image);
      await picture.whenReady;
      if (this.frame.firstChild !== picture) {
        this.zoom.reset();
        replace(this.frame, picture);
      }
      this.caption.textContent = item.image.prompt || t("no_prompt");
      this.caption.classList.toggle("none", !item.image.prompt);
      this.main.dataset.digest = item.image.digest;
    }
    const grade = item ? numberOf(item.image.grade) : 0;
    for (const button of this.bar.children) button.setAttribute("aria-pressed", String(Number(button.dataset.grade) === grade));
    for (const button of [...this.bar.children, ...this.tools.children]) button.disabled = !item && !["undo", "sweep"].includes(button.dataset.tool);
    const graded = Number(this.state.graded ?? 0);
    const left = Math.max(0, Number(this.state.known ?? 0) - graded);
    this.count.textContent = t("progress", { graded: whole(graded), left: whole(left) });
    this.way.hidden = get("guide") === "skipped" || this.state.fitted;
    this.way.textContent = t("way_here", { n: whole(Math.min(graded, ENOUGH)), of: whole(ENOUGH) });
    this.meter.max = Math.max(1, graded + left);
    this.meter.value = graded;
    this.prefetch();
    if (said) toast(said);
  }

  async act(work) {
    if (this.busy) return;
    this.busy = true;
    this.frame.setAttribute("aria-busy", "true");  // a key pressed now would grade what nobody has seen yet
    const began = performance.now();
    try {
      if (await work() !== false) {
        await painted();
        performance.measure("konomi-key-to-painted", { start: began, end: performance.now() });
      }
    } catch (error) {
      toast(error.code === "resource_exhausted" && error.message === "outbox full" ? t("outbox_full") : t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
      this.frame.removeAttribute("aria-busy");
    }
  }

  grade(number) {
    return this.act(async () => {
      const item = this.item;
      if (!item || (!number && !numberOf(item.image.grade))) return false;  // nothing to clear
      const receipt = await record(item.image.digest, number, this.back ? "" : item.reason);
      const before = numberOf(item.image.grade);
      const after = { ...item, image: { ...item.image, grade: GRADES[number] || undefined } };
      // An image shown again to check on its grade looks ungraded and is counted already.
      if (number && !before && item.reason !== REPEAT) this.state.graded = Number(this.state.graded ?? 0) + 1;
      if (!number && before) this.state.graded = Number(this.state.graded ?? 0) - 1;
      this.past.push({ item: after, receipt, before });
      if (this.back) {
        this.seen[this.seen.length - this.back] = after;
        if (number) this.back -= 1;
      } else {
        this.due.shift();
        this.seen.push(after);
      }
      await this.advanced(number ? t("graded_toast", { grade: LETTERS[number] }) : t("cleared"));
    });
  }

  skip() {
    return this.act(async () => {
      const item = this.item;
      if (!item) return false;
      if (this.back) {
        this.back -= 1;
      } else {
        await call("Skip", { taste: taste(), digest: item.image.digest }).catch((error) => { if (!error.isAway) throw error; });
        this.due.shift();
        this.seen.push(item);
        this.past.push({ item, skipped: true });
      }
      await this.advanced(t("skipped"));
    });
  }

  async advanced(said) {
    if (!this.due.length) await this.fetch();
    else if (this.due.length <= PREFETCH) this.fetch().then(() => this.prefetch()).catch(() => {});
    await this.paint(said);
  }

  undo() {
    return this.act(async () => {
      this.back = 0;
      const last = this.past.at(-1);
      if (last?.skipped) {
        await call("Unskip", { taste: taste(), digest: last.item.image.digest }).catch((error) => { if (!error.isAway) throw error; });
        this.past.pop();
        this.bringBack(last.item);
      } else {
        const entry = await undo(last?.receipt);
        if (!entry) {
          toast(t("nothing_to_undo"));
          return false;
        }
        this.past.pop();
        const digest = entry.imageDigest ?? last.item.image.digest;
        const item = last?.item.image.digest === digest ? last.item : { image: await call("RaterService/GetImage", { taste: taste(), digest }), reason: "" };
        const stands = entry.imageDigest ? entry.grade : GRADES[last.before];
        const wasGraded = numberOf(item.image.grade) || last === undefined;
        if (wasGraded && !numberOf(stands)) this.state.graded = Math.max(0, Number(this.state.graded ?? 0) - 1);
        this.bringBack({ ...item, image: { ...item.image, grade: stands } });
      }
      await this.paint(t("undone"));
    });
  }

  bringBack(item) {
    const others = (items) => items.filter((other) => other.image.digest !== item.image.digest);
    this.seen = others(this.seen);
    this.due = [item, ...others(this.due)];
  }

  move(step) {
    return this.act(async () => {
      const wanted = Math.min(this.seen.length, Math.max(0, this.back - step));
      if (wanted === this.back) return false;
      this.back = wanted;
      await this.paint();
    });
  }

  detail() {
    if (this.item) openDetail(this.item.image.digest, () => this.current());
  }

  toggleCarry() {
    set("carry", get("carry") ? "" : "yes");
    this.carry.setAttribute("aria-pressed", String(Boolean(get("carry"))));
    if (get("carry")) this.fetch().then(() => this.carryImages());
  }

  async carryImages() {
    let count = 0;
    for (const item of [...this.due]) {
      const answer = await fetch(full(item.image.digest), { headers: { "x-keep": "1" } }).catch(() => null);
      count += answer?.ok ? 1 : 0;
      if (!this.current()) return;
    }
    toast(many("carried", count));
  }

  leave() {
    this.zoom?.leave();
  }

  key(name, event) {
    if (this.zoom.key(name, event)) return true;
    if (/^[0-5]$/.test(name)) this.grade(Number(name));
    else if (name === "z") this.undo();
    else if (name === "space") this.skip();
    else if (name === "enter") this.detail();
    else if (name === "s") location.hash = SWEEP;
    else if (name === "left") this.move(-1);
    else if (name === "right") this.move(1);
    else return false;
    return true;
  }
}
