// A night while it runs: what it does, what it made last, what it thinks best, what it turned away, and its log.

import { call } from "../data/connect.js";
import { h, replace, toast } from "../ui/dom.js";
import { decimal, lasting, percent, t, whole } from "../i18n/i18n.js";
import { openDetail } from "./detail.js";
import { isFitted } from "../ui/models.js";
import { named, small } from "../ui/picture.js";
import { unitName } from "./verdict.js";

const BEST = 12;
const ASKED = 120;

export class Live {
  // `current` says whether the view is still shown; `look` asks for the state anew.
  constructor(current, look) {
    this.current = current;
    this.look = look;
    this.steps = -1;
    this.title = h("p", { class: "small" });
    this.doing = h("p", { class: "big", role: "status" });
    this.bar = h("progress", { max: 1, value: 0, "aria-label": t("night_progress") });
    this.left = h("p", {});
    this.pause = h("button", { click: () => this.stop() }, t("pause_night"));
    this.pausing = h("p", { class: "small", role: "status" });
    this.newest = h("div", {});
    this.best = h("div", {});
    this.rejected = h("div", {});
    this.log = new Log();
    this.place = h("section", {}, h("div", { class: "live" }, this.title, this.doing, this.bar, this.left, this.pausing,
      h("div", { class: "inline" }, this.pause, this.log.button)), this.log.place, this.newest, this.best, this.rejected);
  }

  show(night, system) {
    const left = night.eta_seconds === null ? t("eta_unknown") : t("eta", { time: lasting(night.eta_seconds) });
    const counted = night.total ? ` · ${whole(night.done ?? 0)} / ${whole(night.total)}` : "";
    this.title.textContent = `${system} · ${t("running")}`;
    if (this.doing.textContent !== night.doing) this.doing.textContent = night.doing || "…";
    this.bar.value = night.share;
    this.left.textContent = `${percent(night.share)} · ${left}${counted}`;
    this.pause.hidden = night.stopping;
    const words = t(night.stopping ? "pausing" : "pause_note");
    if (this.pausing.textContent !== words) this.pausing.textContent = words;
    this.pictures(night);
    this.turnedAway(night);
    if (this.steps !== night.steps) {
      this.steps = night.steps;
      this.bestOf(night).catch(() => { this.steps = -1; });
    }
    this.log.refresh();
    return this.place;
  }

  pictures(night) {
    const key = `${night.drafts}${night.newest.join()}`;
    if (key === this.shown) return;
    this.shown = key;
    const drafts = night.drafts ? h("p", { class: "small" }, t("made_drafts_note")) : null;  // never taken for what is kept
    replace(this.newest, night.newest.length ? [h("h2", {}, t(night.drafts ? "made_drafts" : "made_last")), drafts, h("ul", { class: "strip" }, night.newest.map((digest) => h("li", {}, picture(digest))))] : null);
  }

  // The rater's lower bound: what is good even if its doubt is right.
  async bestOf(night) {
    if (!await isFitted()) return;
    const asked = { taste: night.taste, filter: { nights: [night.night] }, orderBy: "utility desc", pageSize: ASKED, withScores: true };
    const { images = [] } = await call("RaterService/ListImages", asked);
    if (!this.current()) return;
    const bound = (image) => image.score?.lowerBound ?? 0;
    const best = images.filter((image) => image.score && !image.pixelsCollected).sort((a, b) => bound(b) - bound(a)).slice(0, BEST);
    replace(this.best, best.length ? [h("h2", {}, t("best_so_far")), h("p", { class: "small" }, t("best_so_far_note")),
      strip(best, this.current, (image) => decimal(bound(image), 1))] : null);
  }

  turnedAway(night) {
    const unit = night.figures.findLast((each) => each.rejected?.length);
    const key = unit ? `${unit.unit}` : "";
    if (key === this.told) return;
    this.told = key;
    replace(this.rejected, unit ? [h("h2", {}, t("turned_away", { unit: unitName(unit.unit) })),
      h("p", { class: "small" }, t("chosen_of_unit", { n: whole(unit.selected ?? 0) })),
      h("div", { class: "reasons" }, unit.rejected.map((reason) => h("section", {}, h("h3", {}, `${whole(reason.count)} · ${reason.reason}`),
        strip(reason.examples.map((digest) => ({ digest })), this.current))))] : null);
  }

  async stop() {
    this.pause.disabled = true;
    try {
      await call("NightStop", {});
      await this.look();
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.pause.disabled = false;
    }
  }
}

// The log of the nights that were begun on the page, as text.
export class Log {
  constructor() {
    this.button = h("button", { class: "plain", "aria-expanded": "false", click: () => this.toggle() }, t("show_log"));
    this.lines = h("pre", { class: "log", tabindex: 0, role: "region", "aria-label": t("log") });
    this.place = h("div", { hidden: true }, this.lines);
  }

  async toggle() {
    this.place.hidden = !this.place.hidden;
    this.button.setAttribute("aria-expanded", String(!this.place.hidden));
    this.button.textContent = this.place.hidden ? t("show_log") : t("hide_log");
    await this.refresh();
  }

  async refresh() {
    if (this.place.hidden) return;
    try {
      const { lines } = await call("NightLog", {});
      const words = lines.length ? lines.join("\n") : t("no_log");
      if (this.lines.textContent === words) return;
      this.lines.textContent = words;
      this.lines.scrollTop = this.lines.scrollHeight;
    } catch (error) {
      this.lines.textContent = t("problem", { why: error.message });
    }
  }
}

const picture = (digest) => h("img", { src: small(digest), alt: t("image") });

function strip(images, current, caption = () => "") {
  return h("ul", { class: "strip" }, images.map((image) => h("li", {}, h("button", { "aria-label": named(image), click: () => openDetail(image.digest, current) },
    h("img", { src: small(image.digest), alt: "" }), caption(image) ? h("span", { class: "chip" }, caption(image)) : null))));
}
