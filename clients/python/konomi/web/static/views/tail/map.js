// The map: every image a point, like by like; regions you like, and where a unit draws. A point leads to grading it.

import { call } from "../../data/connect.js";
import { openDetail } from "../detail.js";
import { h, replace, toast } from "../../ui/dom.js";
import { brief, decimal, many, percent, t, whole } from "../../i18n/i18n.js";
import { GRADES, LETTERS, numberOf, record, undo } from "../../data/labels.js";
import { unitName } from "../../ui/models.js";
import { due, nextStep } from "../../ui/next.js";
import { named, painted, thumb } from "../../ui/picture.js";
import { taste } from "../../prefs.js";
import { LIKED, Scatter } from "./scatter.js";

const POINTS = 2000;
const AT_ONCE = 12;
const FIRST_REGIONS = 8;

export async function show(main, current) {
  const view = new TasteMap(main, current);
  await view.begin();
  return view;
}

class TasteMap {
  constructor(main, current) {
    this.main = main;
    this.current = current;
    this.past = [];  // what was graded here: { point, before, receipt }
    this.region = null;
    this.shown = AT_ONCE;
  }

  async begin() {
    const found = await call("RaterService/MapImages", { taste: taste(), count: POINTS });
    if (!this.current()) return;
    this.found = found;
    this.points = (found.points ?? []).map((point) => ({ x: 0, y: 0, region: 0, std: 0, ...point }));
    this.regions = (found.regions ?? []).map((one) => ({ region: 0, x: 0, y: 0, radius: 0, ...one, images: Number(one.images ?? 0), graded: Number(one.graded ?? 0), liked: Number(one.liked ?? 0) }));
    if (!this.points.length) {
      replace(this.main, h("div", { class: "sheet" }, h("h1", {}, t("map")), h("p", { class: "lead" }, t("map_lead")), h("p", {}, t("map_none")), nextStep(await due())));
      return;
    }
    this.fitted = Boolean(found.raterVersion);
    this.scatter = new Scatter(t("map_label", { n: whole(this.points.length), regions: whole(this.likedRegions().length) }), (point) => this.choose(point));
    this.legend = h("ul", { class: "legend" });
    this.panel = h("aside", { class: "at-hand quiet-keys", "aria-label": t("map_chosen") });
    this.table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("map_regions") });
    this.pictures = h("div", {});
    replace(this.main, h("div", { class: "sheet" }, h("h1", {}, t("map")), h("p", { class: "lead" }, t("map_lead")),
      await this.controls(), h("div", { class: "mapped" }, h("div", {}, this.scatter.svg, this.legend, this.remarks()), this.panel),
      h("h2", {}, t("map_regions")), h("p", { class: "small" }, t("map_regions_lead")), this.table, this.pictures));
    this.say();
    this.paint();
    this.list();
    this.strip();
  }

  likedRegions() {
    return this.regions.filter((one) => one.island || one.liked >= LIKED);
  }

  async controls() {
    const units = [...new Set(this.points.map((point) => point.unit ?? "").filter(Boolean))];
    const names = await Promise.all(units.map(unitName));
    this.unit = this.found.newestUnit ?? "";
    const colours = h("select", { id: "map-colours", change: (event) => { this.colours = event.target.value; this.paint(); } },
      [["yours", "map_by_grade"], ["expected", "map_by_expected"]].map(([value, word]) => h("option", { value }, brief(word))));
    this.colours = "yours";
    const rings = h("select", { id: "map-unit", change: (event) => { this.unit = event.target.value; this.paint(); } },
      h("option", { value: "" }, brief("map_ring_none")), units.map((unit, place) => h("option", { value: unit, selected: unit === this.unit }, names[place])));
    return h("div", { class: "inline" }, this.fitted && h("label", {}, t("map_colours"), colours), units.length > 0 && h("label", {}, t("map_ring"), rings));
  }

  remarks() {
    const [across = 0, up = 0] = this.found.explainedVariance ?? [];
    const words = [t("map_shown", { across: percent(across), up: percent(up) })];
    const [left, graded, gone] = [this.found.leftOut, this.found.gradedLeftOut, this.found.withoutPixels].map((n) => Number(n ?? 0));
    if (left) words.push(t("map_left_out", { n: whole(this.points.length), of: whole(this.found.totalSize), graded: whole(graded) }));
    if (gone) words.push(t("map_gone", { n: whole(gone) }));
    return h("p", { class: "small" }, words.join(" "));
  }

  paint() {
    this.scatter.show({ points: this.points, regions: this.regions, colours: this.colours, unit: this.unit, region: this.region });
    const signs = [1, 2, 3, 4, 5].map((n) => [`said g${n}`, LETTERS[n]]);
    if (this.fitted) signs.push(["thought doubtful g4", t("map_sign_expected")]);
    else signs.push(["open g0", t("not_graded")]);
    if (this.regions.some((one) => one.liked >= LIKED)) signs.push(["liked", t("map_sign_liked")]);
    if (this.regions.some((one) => one.island)) signs.push(["isle", t("map_sign_island")]);
    if (this.unit) signs.push(["made", t("map_sign_unit")]);
    replace(this.legend, signs.map(([kind, words]) => h("li", {}, h("span", { class: `sign ${kind}`, "aria-hidden": "true" }), words)));
  }

  expected(region) {
    const known = this.points.filter((point) => point.region === region && point.utility);
    return known.length ? decimal(known.reduce((sum, point) => sum + point.utility, 0) / known.length, 1) : "–";
  }

  list(all = false) {
    const ranked = [...this.regions].sort((a, b) => Number(b.island ?? 0) - Number(a.island ?? 0) || b.liked - a.liked || b.images - a.images || a.region - b.region);
    const rows = all ? ranked : ranked.slice(0, FIRST_REGIONS);
    const head = ["map_region", "map_images", "map_graded", "map_liked", ...(this.fitted ? ["map_expected"] : [])];
    replace(this.table, h("table", { class: "regions" }, h("thead", {}, h("tr", {}, head.map((word, place) => h("th", { scope: "col", class: place ? "num" : null }, t(word))))),
      h("tbody", {}, rows.map((one) => h("tr", {}, h("th", { scope: "row" }, h("button", { "aria-pressed": String(one.region === this.region), "data-region": one.region, click: () => this.open(one.region) },
        t("map_region_n", { n: one.region }), one.island ? ` · ${brief("map_sign_island")}` : one.liked >= LIKED ? " ♥" : "")),
      [one.images, one.graded, one.liked].map((n) => h("td", { class: "num" }, whole(n))), this.fitted && h("td", { class: "num" }, this.expected(one.region)))))),
    rows.length < ranked.length && h("p", {}, h("button", { click: () => { this.list(true); this.table.focus(); } }, t("map_all_regions", { n: whole(ranked.length) }))));
  }

  open(region) {
    this.region = this.region === region ? null : region;
    this.shown = AT_ONCE;
    for (const button of this.table.querySelectorAll("[data-region]")) button.setAttribute("aria-pressed", String(Number(button.dataset.region) === this.region));
    this.paint();
    this.strip();
  }

  strip() {
    if (this.region === null) {
      replace(this.pictures);
      return;
    }
    const inside = this.points.filter((point) => point.region === this.region)
      .sort((a, b) => numberOf(b.grade) - numberOf(a.grade) || (b.utility ?? 0) - (a.utility ?? 0));
    replace(this.pictures, h("h3", {}, many("map_region_pictures", inside.length)),
      h("ul", { class: "strip quiet-keys" }, inside.slice(0, this.shown).map((point) => h("li", {}, h("button", { "data-digest": point.digest, "aria-label": this.words(point), click: () => this.choose(point, true) },
        h("img", { src: thumb(point.digest), alt: "", loading: "lazy" }), numberOf(point.grade) ? h("span", { class: `chip g${numberOf(point.grade)}` }, LETTERS[numberOf(point.grade)]) : null)))),
      inside.length > this.shown && h("p", {}, h("button", { click: () => { this.shown += 2 * AT_ONCE; this.strip(); } }, t("map_more"))));
  }

  words(point) {
    const grade = numberOf(point.grade);
    const said = [grade ? LETTERS[grade] : t("not_graded"), t("map_in_region", { n: point.region })];
    if (point.utility) said.splice(1, 0, t("map_expects", { score: decimal(point.utility, 1), doubt: decimal(point.std, 1) }));
    return said.join(", ");
  }

  choose(point, focus = false) {
    this.at = point;
    this.scatter.mark(point);
    this.say();
    if (focus) this.panel.querySelector("button")?.focus({ preventScroll: false });
    if (matchMedia("(max-width: 46rem)").matches) this.panel.scrollIntoView({ block: "nearest" });
  }

  say() {
    const point = this.at;
    if (!point) {
      replace(this.panel, h("p", { class: "small" }, t("map_hint")));
      return;
    }
    const grade = numberOf(point.grade);
    if (!this.told) {
      this.told = h("p", { role: "status" });
      this.picture = h("img", { alt: "" });
      this.prompt = h("p", { class: "caption" });
      this.bar = h("div", { class: "grades", role: "group", "aria-label": t("grade_bar") }, [1, 2, 3, 4, 5].map((n) => h("button", { class: `g g${n}`, "data-grade": n, "aria-label": t("grade_as", { grade: LETTERS[n] }), click: () => this.grade(n) }, h("b", {}, LETTERS[n]))));
      const tool = (word, key, act) => h("button", { class: "plain", click: act }, t(word), h("kbd", { "aria-hidden": "true" }, key));
      replace(this.panel, this.picture, this.prompt, this.told, this.bar, h("div", { class: "act" }, tool("undo", "z", () => this.undo()), tool("clear", "0", () => this.grade(0)), tool("details", "Enter", () => this.detail())));
    }
    this.picture.src = thumb(point.digest);
    this.panel.dataset.digest = point.digest;
    this.told.textContent = this.words(point);
    for (const button of this.bar.children) button.setAttribute("aria-pressed", String(Number(button.dataset.grade) === grade));
    this.caption(point);
  }

  async caption(point) {
    point.image ??= call("RaterService/GetImage", { taste: taste(), digest: point.digest }).catch(() => null);
    const image = await point.image;
    if (this.at !== point) return;
    this.picture.alt = image ? named(image) : t("image");
    this.prompt.textContent = image?.prompt || t("no_prompt");
  }

  // After a grade the nearest image without one is next: what lies together is graded together.
  async grade(number) {
    const point = this.at;
    if (!point || this.busy || (!number && !numberOf(point.grade))) return;
    this.busy = true;
    try {
      const before = point.grade;
      const receipt = await record(point.digest, number, "");
      this.past.push({ point, before, receipt });
      this.regraded(point, GRADES[number] || undefined);
      const next = number ? this.scatter.nearestUngraded(point) : null;
      this.choose(next ?? point);
      await painted();
      toast(number ? t("graded_toast", { grade: LETTERS[number] }) : t("cleared"));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
    }
  }

  regraded(point, grade) {
    const counts = (one) => [numberOf(one) ? 1 : 0, numberOf(one) >= 4 ? 1 : 0];
    const region = this.regions.find((one) => one.region === point.region);
    const [before, after] = [counts(point.grade), counts(grade)];
    region.graded += after[0] - before[0];
    region.liked += after[1] - before[1];
    point.grade = grade;
    this.scatter.colour(point);
    this.list(this.table.querySelectorAll("tbody tr").length === this.regions.length);
    if (this.region === point.region) this.strip();
  }

  async undo() {
    if (this.busy) return;
    this.busy = true;
    try {
      const last = this.past.at(-1);
      const entry = await undo(last?.receipt);
      if (last) {
        this.past.pop();
        this.regraded(last.point, last.before);
        this.choose(last.point);
      } else if (entry) {
        const point = this.points.find((one) => one.digest === entry.imageDigest);
        if (point) {
          this.regraded(point, entry.grade);
          this.choose(point);
        }
      }
      toast(entry ? t("undone") : t("nothing_to_undo"));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
    }
  }

  detail() {
    if (this.at) openDetail(this.at.digest, this.current);
  }

  leave() {
    this.scatter?.leave();
  }

  key(name) {
    if (!this.points.length) return false;
    if (/^[0-5]$/.test(name)) this.grade(Number(name));
    else if (name === "z") this.undo();
    else if (name === "enter" && this.at) this.detail();
    else if (name === "space" && this.at) this.choose(this.scatter.nearestUngraded(this.at) ?? this.at);
    else if (["left", "right"].includes(name) && !this.at) this.choose(this.points[0]);
    else if (["left", "right", "up", "down"].includes(name) && this.at) this.choose(this.scatter.towards(this.at, name) ?? this.at);
    else return false;
    return true;
  }
}
