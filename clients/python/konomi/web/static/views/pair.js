// The pair view: two images, one question; pairs are those the rater is least sure about.

import { call } from "../data/connect.js";
import { openDetail } from "./detail.js";
import { h, replace, toast } from "../ui/dom.js";
import { brief, t, whole } from "../i18n/i18n.js";
import { LETTERS, compare, record, undo, undoComparison } from "../data/labels.js";
import { isFitted } from "../ui/models.js";
import { named, painted, prepared } from "../ui/picture.js";
import { taste } from "../prefs.js";
import { due, nextStep } from "../ui/next.js";
import { sideLabel, sideWords } from "../ui/sides.js";
import { hint, onSwipe } from "../ui/swipe.js";
import { Zoom } from "../ui/zoom.js";

const POOL = 32;

export async function show(main, current) {
  const view = new Pair(main, current);
  await view.begin();
  return view;
}

// Neighbours in the rater's order whose scores differ least for their doubt; without a rater, as they come.
export function pairsOf(images, scores) {
  if (!scores) return Array.from({ length: Math.floor(images.length / 2) }, (_, i) => [images[2 * i], images[2 * i + 1]]);
  const order = images.map((image, place) => ({ image, score: scores[place] })).filter((one) => one.score)
    .sort((a, b) => (a.score.utility ?? 0) - (b.score.utility ?? 0));
  const beside = order.slice(1).map((one, place) => {
    const other = order[place];
    const gap = Math.abs((one.score.utility ?? 0) - (other.score.utility ?? 0));
    return { pair: [one.image, other.image], sure: gap / Math.hypot(one.score.std ?? 1, other.score.std ?? 1) };
  }).sort((a, b) => a.sure - b.sure);
  const used = new Set();
  const chosen = [];
  for (const { pair } of beside) {
    if (pair.some((image) => used.has(image.digest))) continue;
    pair.forEach((image) => used.add(image.digest));
    chosen.push(Math.random() < 0.5 ? pair : [pair[1], pair[0]]);
  }
  return chosen;
}

class Pair {
  constructor(main, current) {
    this.main = main;
    this.current = current;
    this.pairs = [];
    this.past = [];
    this.at = 0;
    this.busy = false;
    this.count = 0;
    this.turn = Math.floor(Math.random() * 2 ** 31);
  }

  async begin() {
    this.sides = [0, 1].map((place) => h("button", {
      class: "side quiet-keys", "aria-label": sideLabel(place), click: () => this.choose(place), focus: () => { this.at = place; this.mark(); },
    }));
    this.told = h("p", { class: "count" });
    const tool = (word, key, act) => h("button", { class: "plain", click: act }, word, h("kbd", { "aria-hidden": "true" }, key));
    this.grid = h("div", { class: "sides" }, this.sides);
    replace(this.main, h("h1", { class: "unseen" }, t("pair")),
      h("section", { class: "pair" }, h("h2", {}, t("pair_question")), h("p", { class: "small" }, t("pair_why")), this.grid,
        hint([["←", sideWords(0)], ["→", sideWords(1)]]),
        h("div", { class: "act quiet-keys" }, tool(sideWords(0), "←", () => this.choose(0)), tool(t("tie"), "↑", () => this.choose(2)),
          tool(sideWords(1), "→", () => this.choose(1)), tool(t("skip"), "Space", () => this.skip()), tool(t("zoom"), "x", () => this.zoom.toggle()), tool(t("undo"), "z", () => this.undo())), this.told));
    this.zoom = new Zoom(this.sides);
    onSwipe(this.grid, { left: () => this.choose(0), right: () => this.choose(1), up: () => this.choose(2), down: () => this.skip() }, () => this.zoom.taken);
    await this.fetch();
    await this.paint();
  }

  async fetch() {
    this.turn += 1;
    const { suggestions = [] } = await call("RaterService/SuggestImages", { taste: taste(), count: POOL, seed: this.turn, noRepeats: true });
    let images = suggestions.map((one) => one.image);
    if (images.length < 2) images = (await call("RaterService/ListImages", { taste: taste(), pageSize: POOL, orderBy: "digest" })).images ?? [];
    if (images.length < 2) return;
    let scores = null;
    if (await isFitted()) {
      const reply = await call("RaterService/ScoreImages", { taste: taste(), images: images.map((image) => ({ digest: image.digest })) });
      scores = (reply.results ?? []).map((result) => result.score);
    }
    this.pairs.push(...pairsOf(images, scores));
  }

  async paint() {
    const pair = this.pairs[0];
    if (!pair) {
      const step = await due();
      replace(this.grid, h("div", { class: "empty" }, h("p", {}, t("pair_none")), nextStep(step === "grade" ? "pictures" : step)));
      return;
    }
    if (!this.sides[0].isConnected) replace(this.grid, this.sides);
    this.zoom.reset();
    const pictures = pair.map(prepared);
    await Promise.all(pictures.map((picture) => picture.whenReady));
    this.sides.forEach((side, place) => {
      if (side.firstChild !== pictures[place]) replace(side, pictures[place]);
      side.setAttribute("aria-label", `${sideLabel(place)}: ${named(pair[place])}`);
    });
    this.told.textContent = this.count ? t("compared", { n: whole(this.count) }) : "";
    for (const next of this.pairs.slice(1, 4)) next.forEach(prepared);
    this.mark();
  }

  mark() {
    this.sides.forEach((side, place) => side.classList.toggle("at", place === this.at && this.sides.includes(document.activeElement)));
  }

  async act(work) {
    if (this.busy) return;
    this.busy = true;
    this.grid.setAttribute("aria-busy", "true");
    try {
      if (await work() !== false) {
        if (this.pairs.length < 3) await this.fetch();
        await this.paint();
        await painted();
      }
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
      this.grid.removeAttribute("aria-busy");
    }
  }

  choose(place) {
    return this.act(async () => {
      const pair = this.pairs[0];
      if (!pair) return false;
      const [winner, loser] = place === 1 ? [pair[1], pair[0]] : pair;
      const receipt = await compare(winner.digest, loser.digest, place === 2);
      this.pairs.shift();
      this.past.push({ pair, receipt });
      this.count += 1;
      toast(place === 2 ? t("tie") : t(place ? "right" : "left"));
    });
  }

  skip() {
    return this.act(async () => {
      if (!this.pairs.length) return false;
      this.past.push({ pair: this.pairs.shift(), skipped: true });
      toast(t("skipped"));
    });
  }

  grade(number) {
    return this.act(async () => {
      const image = this.pairs[0]?.[this.at];
      if (!image) return false;
      this.past.push({ receipt: await record(image.digest, number, "") });
      toast(number ? LETTERS[number] : t("cleared"));
    });
  }

  undo() {
    return this.act(async () => {
      const last = this.past.at(-1);
      if (!last) return this.undoEarlier();
      if (last.pair && !last.skipped) {
        await undoComparison(last.receipt);
        this.count -= 1;
      } else if (!last.skipped) await undo(last.receipt);
      this.past.pop();
      if (last.pair) this.pairs.unshift(last.pair);
      toast(t("undone"));
    });
  }

  // What an earlier sitting recorded: its last comparison, shown again; where none is left, its last grade.
  async undoEarlier() {
    const entry = await undoComparison();
    if (!entry) {
      toast(t(await undo() ? "undone" : "nothing_to_undo"));
      return;
    }
    const digests = [entry.winnerDigest, entry.loserDigest];
    const { images = [] } = await call("RaterService/ListImages", { taste: taste(), filter: { digests }, pageSize: 2 });
    const pair = digests.map((digest) => images.find((image) => image.digest === digest));
    if (pair.every(Boolean)) this.pairs.unshift(pair);
    toast(t("undone"));
  }

  leave() {
    this.zoom?.leave();
  }

  key(name, event) {
    if (this.zoom.key(name, event)) return true;
    if (name === "left") this.choose(0);
    else if (name === "right") this.choose(1);
    else if (name === "up") this.choose(2);
    else if (name === "down") { this.at = 1 - this.at; this.sides[this.at].focus(); }
    else if (name === "space") this.skip();
    else if (name === "z") this.undo();
    else if (name === "enter") openDetail(this.pairs[0]?.[this.at].digest, this.current);
    else if (/^[0-5]$/.test(name)) this.grade(Number(name));
    else return false;
    return true;
  }
}
