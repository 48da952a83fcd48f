// The library: every image of a taste in one grid, by filter and order or by likeness, graded by the same keys.

import { call } from "../data/connect.js";
import { ChoosingView, PAGE, SIZES } from "../ui/choosing.js";
import { openDetail } from "./detail.js";
import { h, replace, toast } from "../ui/dom.js";
import { Grid } from "../ui/grid.js";
import { brief, decimal, many, t } from "../i18n/i18n.js";
import { GRADES, LETTERS, numberOf, record, undo, undoAll } from "../data/labels.js";
import { filtersAsked, keepFilters } from "../ui/address.js";
import { favourites, load } from "../ui/favourites.js";
import { idOf, models } from "../ui/models.js";
import { nextStep } from "../ui/next.js";
import { fileName, small, thumb } from "../ui/picture.js";
import { asked, request as searchRequest, searchBox } from "../ui/search.js";
import { get, taste } from "../prefs.js";

const PAGES_KEPT = 40;
const ORDERS = [["create_time desc", "order_new"], ["create_time", "order_old"], ["utility desc", "order_best"], ["utility", "order_worst"], ["novelty desc", "order_novel"], ["novelty", "order_usual"]];
const SOURCES = ["SOURCE_SELF", "SOURCE_IMPORTED", "SOURCE_CONSENTED", "SOURCE_SCRAPED"];
const SETTLE = 70;

export async function show(main, current) {
  const view = new Library(main, current);
  await view.begin();
  return view;
}

class Library extends ChoosingView {
  constructor(main, current) {
    super();
    this.main = main;
    this.current = current;
    const { filter, order } = filtersAsked(ORDERS.map(([value]) => value));
    this.filter = { grades: new Set(), unit: "", source: "", prompt: "", path: "", score: "", novelty: "", favourites: false, ...filter };
    this.order = order ?? ORDERS[0][0];
    this.query = asked();  // words or an image that are looked for: then the nearest come first, and no filter holds
    this.past = [];
    this.forget();
  }

  forget() {
    this.pages = new Map();
    this.asking = new Map();
    this.wanted = [0, 0];
    this.trouble = -Infinity;  // when a page last failed: what does not answer is not asked again at every frame
    this.number = (this.number ?? 0) + 1;
  }

  async begin() {
    this.grid = new Grid({
      label: t("all_images"), size: SIZES[Number(get("cell") ?? 2)] ?? SIZES[2],
      fill: (cell, index) => this.fill(cell, index), need: (first, last, passing) => this.need(first, last, passing), chosen: (index, event, before) => this.clicked(index, event, before),
    });
    this.grid.scroller.setAttribute("aria-multiselectable", "true");
    this.grid.scroller.addEventListener("dblclick", () => this.detail());
    this.found = h("span", { role: "status" });
    replace(this.main, h("h1", { class: "unseen" }, t("library")),
      h("section", { class: "library" }, searchBox(this.query), this.query ? this.units = null : this.filters(), this.bar(), this.chosen.bar, this.none = h("div", { class: "empty", hidden: true }, nextStep("pictures")), this.grid.scroller));
    // Without favourites the library is still the library; a filter by them waits for them.
    const known = load().then(() => this.current() && this.refavoured()).catch(() => {});
    if (this.filter.favourites) await known;
    const [first, units] = await Promise.all([this.ask(0), models().catch(() => [])]);
    if (!this.current() || !first) return;
    this.units?.append(...units.map((model) => h("option", { value: idOf(model) }, model.displayName || idOf(model))));
    if (this.units) this.units.value = this.filter.unit;
    this.grid.scroller.focus({ preventScroll: true });
  }

  filters() {
    const toggle = (grade) => h("button", {
      class: `toggle ${grade ? `g${grade}` : ""}`, "aria-pressed": String(this.filter.grades.has(grade)), "aria-label": grade ? LETTERS[grade] : t("ungraded"), title: grade ? LETTERS[grade] : t("ungraded"),
      click: (event) => {
        if (!this.filter.grades.delete(grade)) this.filter.grades.add(grade);
        event.currentTarget.setAttribute("aria-pressed", String(this.filter.grades.has(grade)));
        this.restart();
      },
    }, LETTERS[grade]);
    const change = (name, late) => (event) => {
      this.filter[name] = event.target.value.trim();
      clearTimeout(this.later);
      this.later = setTimeout(() => this.restart(), late);
    };
    const select = (word, id, options, act) => h("label", {}, h("span", {}, brief(word)), h("select", { id, change: act }, options.map(([value, words]) => h("option", { value, selected: value === (word === "order" ? this.order : this.filter[word]) }, words))));
    this.units = h("select", { id: "by-unit", change: change("unit", 0) }, h("option", { value: "" }, brief("any")), h("option", { value: "base" }, brief("base")));
    const favoured = h("button", { class: "toggle", id: "by-favourite", "aria-pressed": String(this.filter.favourites), "aria-label": t("favourites"), title: t("favourites"), click: () => {
      this.filter.favourites = !this.filter.favourites;
      favoured.setAttribute("aria-pressed", String(this.filter.favourites));
      this.restart();
    } }, "★");
    const number = (word, name, low, high, step) => h("label", {}, h("span", {}, brief(word)), h("input", { type: "number", min: low, max: high, step, inputmode: "decimal", value: this.filter[name], input: change(name, 350) }));
    return h("div", { class: "filters" },
      h("div", { class: "group", role: "group", "aria-label": t("grades") }, [1, 2, 3, 4, 5, 0].map(toggle)), favoured,
      h("details", { class: "more", open: innerWidth > 1248 }, h("summary", {}, t("filters")), h("div", { class: "filters" },
      select("order", "by-order", ORDERS.map(([value, word]) => [value, brief(word)]), (event) => { this.order = event.target.value; this.restart(); }),
      h("label", {}, h("span", {}, brief("unit")), this.units),
      select("source", "by-source", [["", brief("any")], ...SOURCES.map((one) => [one, brief(one)])], change("source", 0)),
      number("least_score", "score", 1, 5, 0.1), number("least_novelty", "novelty", 0, 2, 0.01),
      h("label", {}, h("span", {}, brief("prompt_has")), h("input", { type: "search", id: "by-prompt", value: this.filter.prompt, input: change("prompt", 300) })),
      h("label", {}, h("span", {}, brief("file_has")), h("input", { type: "search", id: "by-file", value: this.filter.path, input: change("path", 300) })))));
  }

  request(page) {
    const { grades, unit, source, prompt, path, score, novelty } = this.filter;
    const kept = this.filter.favourites ? favourites() : null;
    const filter = { grades: [...grades].map((grade) => GRADES[grade] || "GRADE_UNSPECIFIED") };
    if (unit) filter.units = [unit];
    if (source) filter.sources = [source];
    if (prompt) filter.promptContains = prompt;
    if (path) filter.pathContains = path;
    if (score) filter.minUtility = Number(score);
    if (novelty) filter.minNovelty = Number(novelty);
    if (kept) filter.digests = kept.length ? kept : ["0".repeat(64)];  // none of them is no image, not all
    return { taste: taste(), filter, orderBy: this.order, pageSize: PAGE, skip: page * PAGE, withScores: true };
  }

  async page(number, signal) {
    if (!this.query) {
      const { images = [], totalSize } = await call("RaterService/ListImages", this.request(number), { signal });
      return { images, total: Number(totalSize ?? 0) };
    }
    const { hits = [], totalSize } = await call("RaterService/SearchImages", searchRequest(this.query, PAGE, number * PAGE), { signal });
    return { images: hits.map(({ image, similarity = 0 }) => Object.assign(image, { similarity })), total: Number(totalSize ?? 0) };
  }

  async ask(page) {
    const number = this.number;
    const giveUp = new AbortController();
    this.asking.set(page, giveUp);
    try {
      const reply = await this.page(page, giveUp.signal);
      if (number !== this.number || !this.current()) return null;
      const { images, total } = reply;
      this.pages.set(page, images);
      for (const old of this.pages.keys()) {
        if (this.pages.size <= PAGES_KEPT) break;
        if (Math.abs(old - page) > 4) this.pages.delete(old);
      }
      this.found.className = "";
      this.found.textContent = total ? many(this.query ? "images_nearest" : "images_found", total) : t("nothing_found");
      const { filter } = this.request(0);
      this.none.hidden = Boolean(total || filter.grades.length || Object.keys(filter).length > 1);
      this.grid.scroller.hidden = !total;
      if (total !== this.grid.total) this.grid.setTotal(total);
      else this.grid.refresh();
      return reply;
    } catch (error) {
      if (error.code === "canceled" || number !== this.number) return null;
      this.trouble = performance.now();
      if (this.query && !this.pages.size) this.refused(error);  // a later page that fails hides none of those before
      else if (error.code === "failed_precondition" && this.order.startsWith("utility")) toast(t("no_rater"), "bad");
      else if (!this.pages.size) this.failed(error);
      else toast(t("problem", { why: error.message }), "bad");
      return null;
    } finally {
      if (this.asking.get(page) === giveUp) this.asking.delete(page);
    }
  }

  // Where not one image came, what went wrong and the way on stand where they would be.
  failed(error) {
    clearTimeout(this.soon);  // what is asked anew by itself would take the button away under a hand
    this.grid.scroller.hidden = true;
    this.found.className = "failed";
    replace(this.found, t("problem", { why: error.message }), " ", h("button", { click: () => { this.restart(); this.grid.scroller.focus(); } }, t("again")));
  }

  // Why nothing was found stays where the images would be.
  refused(error) {
    const empty = error.code === "failed_precondition";
    this.none.hidden = !empty;
    this.grid.scroller.hidden = true;
    if (empty) this.found.textContent = t("search_empty");
    else if (error.code === "not_found") this.found.textContent = t("search_gone");
    else if (error.code === "invalid_argument") this.found.textContent = t("search_refused", { why: error.message });
    else this.found.textContent = t("problem", { why: error.message });
  }

  // What only goes by is asked for once the hand rests; anything else at once, also while it scrolls on.
  need(first, last, passing) {
    this.wanted = [Math.floor(first / PAGE), Math.floor(Math.max(first, last - 1) / PAGE)];
    clearTimeout(this.soon);
    if ([...this.inWanted()].every((page) => this.pages.has(page))) return;
    if (passing || performance.now() - this.trouble < 1000) this.soon = setTimeout(() => this.load(), SETTLE);
    else this.load();
  }

  * inWanted() {
    for (let page = this.wanted[0]; page <= this.wanted[1]; page += 1) yield page;
  }

  load() {
    for (const [page, giveUp] of this.asking) if (page < this.wanted[0] || page > this.wanted[1]) giveUp.abort();
    for (const page of this.inWanted()) if (!this.pages.has(page) && !this.asking.has(page)) this.ask(page);
  }

  restart() {
    if (!this.query) keepFilters(this.filter, this.order, ORDERS[0][0]);
    for (const giveUp of this.asking.values()) giveUp.abort();
    this.forget();
    this.grid.scroller.scrollTop = 0;
    this.grid.at = 0;
    this.ask(0);
  }

  imageAt(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  fill(cell, index) {
    const image = this.imageAt(index);
    cell.parts ??= this.parts(cell);
    const { picture, grade, guess, star } = cell.parts;
    const digest = image?.digest ?? "";
    if (cell.digest !== digest) {
      cell.digest = digest;
      picture.hidden = true;
      if (digest) picture.src = this.grid.side * devicePixelRatio > 170 ? thumb(digest) : small(digest);
      else picture.removeAttribute("src");
    }
    const number = numberOf(image?.grade);
    grade.hidden = !number;
    grade.className = `chip g${number}`;
    grade.textContent = LETTERS[number];
    const near = this.query && image ? decimal(image.similarity) : "";
    guess.hidden = !near && !image?.score;
    guess.textContent = near || (image?.score ? decimal(image.score.utility ?? 0, 1) : "");
    const on = Boolean(digest) && this.chosen.has(digest);
    cell.classList.toggle("chosen", on);
    cell.setAttribute("aria-checked", String(on));
    const favourite = Boolean(digest) && this.kept.has(digest);
    star.hidden = !favourite;
    cell.title = image?.path ?? "";
    cell.setAttribute("aria-label", image ? `${index + 1}: ${image.prompt || fileName(image) || brief("image")}, ${number ? LETTERS[number] : brief("not_graded")}${image.score ? `, ${brief("scored", { score: decimal(image.score.utility ?? 0, 1) })}` : ""}${near ? `, ${brief("search_near", { n: near })}` : ""}${image.pixelsCollected ? `, ${brief("pixels_collected")}` : ""}${favourite ? `, ${brief("favourite")}` : ""}` : String(index + 1));
  }

  parts(cell) {
    const picture = h("img", { alt: "", decoding: "async", hidden: true, load: () => { picture.hidden = false; } });
    const grade = h("span", { class: "chip", "aria-hidden": "true" });
    const guess = h("span", { class: "guess", "aria-hidden": "true" });
    const star = h("span", { class: "star", "aria-hidden": "true", hidden: true }, "★");
    cell.append(h("div", { class: "pic" }, picture, grade, guess, star));
    return { picture, grade, guess, star };
  }

  async grade(number) {
    if (this.chosen.size) { await this.gradeAll(number); return; }
    const index = this.grid.at;
    const image = this.imageAt(index);
    if (!image || this.busy) return;
    this.busy = true;
    try {
      const before = image.grade;
      const receipt = await record(image.digest, number, "");
      image.grade = GRADES[number] || undefined;
      this.past.push({ index, image, before, receipt });
      this.grid.refresh(index);
      if (number) this.grid.select(index + 1);
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
      const entry = last?.receipts ? await undoAll(last.receipts) : await undo(last?.receipt);
      if (last?.receipts) {
        last.images.forEach((image, place) => this.regraded(image, last.before[place]));
        this.grid.refresh();
      } else if (last) {
        last.image.grade = last.before;
        this.grid.select(last.index);
        this.grid.refresh(last.index);
      } else if (entry) {
        this.restart();
      }
      toast(entry ? t("undone") : t("nothing_to_undo"));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
    }
  }

  detail() {
    const image = this.imageAt(this.grid.at);
    if (image) openDetail(image.digest, this.current, () => this.refavoured());
  }

  leave() {
    clearTimeout(this.soon);
    clearTimeout(this.later);
    this.grid.leave();
  }

  key(name, event) {
    if (/^[0-5]$/.test(name)) this.grade(Number(name));
    else if (name === "z") this.undo();
    else if (name === "space") this.grid.select(this.grid.at + 1);
    else if (name === "enter") this.detail();
    else if (name === "m") this.chooseOne(this.grid.at);
    else if (name === "f") this.favour();
    else if (name === "escape" && (this.chosen.size || this.choosing)) this.chooseNone();
    else if (event.shiftKey && ["left", "right", "up", "down"].includes(name)) {
      const before = this.grid.at;
      this.grid.key(name);
      this.chooseBetween(before, this.grid.at);
    }
    else if (name === "g") document.getElementById("jump-to").focus();
    else return this.grid.key(name.length > 1 ? name : event.key);
    return true;
  }
}
