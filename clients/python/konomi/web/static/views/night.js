// The night: what it would take, its start, where it is, what came of it, and the owner's verdict in the morning.

import { call } from "../data/connect.js";
import { h, replace, toast } from "../ui/dom.js";
import { beside, decimal, inUse, lasting, locale, many, percent, t, when, whole } from "../i18n/i18n.js";
import { idOf, models } from "../ui/models.js";
import { due, nextStep } from "../ui/next.js";
import { small } from "../ui/picture.js";
import { taste } from "../prefs.js";
import { NightForm } from "./night_form.js";
import { Live, Log } from "./night_live.js";
import { Queue } from "./night_queue.js";
import { Verdict, unitName } from "./verdict.js";

const LOOK = 2000;

export async function show(main, current) {
  const view = new Night(main, current);
  await view.begin();
  return view;
}

// The systems a night can run, as the server names them in each language in use.
async function systems() {
  const told = await Promise.all(inUse().map((language) => call("NightSystems", { language })));
  const words = (place, field) => beside(told.map((one) => one.systems[place][field]));
  return told[0].systems.map(({ name }, place) => ({ name, title: words(place, "title"), note: words(place, "note") }));
}


class Night {
  constructor(main, current) {
    this.main = main;
    this.current = current;
    this.chosen = "";
  }

  async begin() {
    this.live = h("div", {});
    this.asked = h("div", {});
    this.past = h("div", {});
    this.verdict = h("div", {});
    this.blind = new Verdict(this.verdict, () => this.look(false));
    this.more = h("div", {});
    this.waiting = h("div", {});
    this.queue = new Queue(this.waiting, (name) => this.systemName(name), () => this.look(true));
    replace(this.main, h("div", { class: "sheet" }, h("h1", {}, t("night")), h("p", { class: "lead" }, t("night_lead")), this.live, this.verdict, this.more, this.asked, this.waiting, this.past));
    this.systems = await systems();
    await this.look(true);
    const step = await due();
    if (this.current() && step !== "night") this.live.before(nextStep(step));
  }

  systemName(name) {
    return this.systems.find((one) => one.name === name)?.title ?? name;
  }

  async look(first = false) {
    clearTimeout(this.timer);
    const told = await call("NightStatus", { night: this.chosen, language: locale() });
    if (!this.current()) return;
    const ended = this.told?.night?.running && !told.night?.running;
    const same = !first && !ended && JSON.stringify(told) === JSON.stringify(this.told);
    this.told = told;
    await this.queue.look();
    if (!same) await this.paint(first || ended);
    if (told.night?.running) this.timer = setTimeout(() => this.look().catch(() => this.again()), LOOK);
  }

  again() {
    this.timer = setTimeout(() => this.look().catch(() => this.again()), 2 * LOOK);
  }

  async paint(anew) {
    const { night, nights } = this.told;
    if (anew) replace(this.asked, night?.running ? h("details", { class: "later" }, h("summary", {}, t("queue_another")), this.form(true)) : this.form());
    const live = !night ? h("p", {}, t("no_night")) : night.running ? this.running(night) : this.ended(night);
    if (this.live.firstChild !== live) replace(this.live, live);
    replace(this.more, night && !night.running ? [this.beforeAfter(night), this.units(night)] : null);
    replace(this.past, nights.length > 1 ? this.list(nights) : null);
    if (anew && night && !night.running) await this.blind.load(night.night);
    if (night?.running) this.blind.clear();
  }

  form(waits = false) {
    const started = async () => { this.chosen = ""; await this.look(true); };
    return new NightForm(this.systems, started, (queue) => this.queue.paint(queue), waits).element;
  }

  // The same elements while it runs: nothing flickers and no focus is lost when a figure changes.
  running(night) {
    this.now ??= new Live(this.current, () => this.look());
    return this.now.show(night, this.systemName(night.system));
  }

  ended(night) {
    this.now = null;
    const unfinished = !["finished", "halted", "abandoned"].includes(night.state);
    const served = night.served?.unit ?? 0;
    const used = night.in_use?.unit ?? served;
    const log = new Log();
    return h("section", {}, h("div", { class: "live" }, h("p", { class: "small" }, `${this.systemName(night.system)} · ${t(night.state)} · ${lasting(night.seconds)}`),
      h("p", { class: "big" }, unfinished ? t(night.state === "stopped" ? "paused_here" : "not_finished") : t("after_night", { name: unitName(used) })),
      unfinished || used === served ? null : h("p", { class: "small" }, t("you_rolled_back", { unit: unitName(served) })),
      unfinished ? null : this.inUseNow(night, used),
      h("div", { class: "verdict" }, night.sentences.map((sentence) => h("p", {}, sentence))),
      h("div", { class: "inline" },
        unfinished ? h("button", { class: "primary", click: () => this.act(call("NightResume", {}, { timeout: 60000 })) }, t("resume_night")) : null,
        h("button", { click: () => this.report(night.night) }, t("report")), log.button)), log.place);
  }

  // A later night, or a choice under Lineage, may have changed what is in use since.
  inUseNow(night, used) {
    const place = h("p", { class: "small" });
    if (night.taste !== taste()) return place;
    models(true).then((known) => {
      const now = known.find((model) => model.current);
      const same = now ? idOf(now) === (night.in_use?.model ?? "") : !used;
      if (!same) place.textContent = t("in_use_now", { name: now ? now.displayName || idOf(now) : t("base") });
    }).catch(() => {});
    return place;
  }

  beforeAfter(night) {
    const base = night.figures.find((unit) => unit.unit === 0)?.sample ?? [];
    const now = night.figures.find((unit) => unit.unit === night.served?.unit && unit.unit)?.sample ?? [];
    if (!base.length || !now.length) return null;
    const picture = (digest) => h("img", { src: small(digest), alt: "", loading: "lazy" });
    return [h("h2", {}, t("before_after")), h("p", { class: "small" }, t("before_after_note", { name: unitName(night.served.unit) })),
      h("div", { class: "beside" }, base.slice(0, Math.min(12, now.length)).map((digest, place) => h("div", {}, picture(digest), picture(now[place]))))];
  }

  units(night) {
    const share = (figure) => (figure ? `${percent(figure.value)} (${percent(figure.low)}–${percent(figure.high)})` : "–");
    const rows = night.figures.filter((unit) => unit.scores);
    if (!rows.length) return null;
    const columns = [["unit", ""], ["decision", ""], ["ssr_share", "num"], ["wins", "num"], ["wins_base", "num"], ["vendi", "num"]];
    return [h("h2", {}, t("night_units")), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("night_units") }, h("table", {},
      h("thead", {}, h("tr", {}, columns.map(([word, kind]) => h("th", { scope: "col", class: kind }, t(word))))),
      h("tbody", {}, rows.map((unit) => h("tr", {}, h("th", { scope: "row" }, unitName(unit.unit), this.kept(unit)),
        h("td", {}, unit.decision === "promote" ? t("promote") : unit.decision === "keep" ? t("keep_parent") : t(unit.decision ?? "")),
        h("td", { class: "num" }, share(unit.scores.p_ssr)), h("td", { class: "num" }, share(unit.wins)), h("td", { class: "num" }, share(unit.wins_base)),
        h("td", { class: "num" }, decimal(unit.scores.vendi.value, 1)))))))];
  }

  // Which checkpoint of its fit it is; the sentences above the table say why.
  kept({ checkpoints }) {
    return checkpoints ? h("small", {}, t("kept_step", { kept: whole(checkpoints.kept), steps: whole(checkpoints.steps) })) : null;
  }

  async report(night) {
    try {
      const { path } = await call("NightReport", { night, language: locale() }, { timeout: 120000 });
      window.open(path, "_blank", "noopener");
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    }
  }

  async act(promise) {
    try {
      await promise;
      await this.look(true);
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    }
  }

  list(nights) {
    const open = (night) => { this.chosen = night; this.look(true); };
    return [h("h2", {}, t("past_nights")), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("past_nights") }, h("table", { class: "nights" }, h("tbody", {}, nights.map((night) => h("tr", {},
      h("th", { scope: "row" }, when(new Date(1000 * night.began).toISOString())), h("td", {}, this.systemName(night.system)), h("td", {}, t(night.state)), h("td", { class: "num" }, many("units_made", night.units)),
      h("td", {}, h("button", { class: "plain", click: () => open(night.night) }, t("details"))))))))];
  }

  leave() {
    clearTimeout(this.timer);
  }

  key(name, event) {
    return this.blind.key(name, event);
  }
}
