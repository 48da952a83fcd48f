// The morning's verdict: blind pairs of the new unit and of what was served before, what they say, keep or roll back.

import { call } from "../data/connect.js";
import { h, replace, toast } from "../ui/dom.js";
import { percent, t } from "../i18n/i18n.js";
import { full, prepared } from "../ui/picture.js";
import { sideLabel, sideWords } from "../ui/sides.js";
import { Zoom } from "../ui/zoom.js";

export const unitName = (number) => (number ? `unit-${number}` : t("base"));

export class Verdict {
  constructor(place, changed) {
    this.place = place;
    this.changed = changed;
    this.told = null;
  }

  async load(night) {
    this.night = night;
    this.told = null;
    replace(this.place);
    this.told = await call("NightPairs", { night });
    this.paint();
  }

  clear() {
    this.told = null;
    replace(this.place);
  }

  get due() {
    return this.told?.pairs.findIndex((pair) => !pair.answer) ?? -1;
  }

  paint() {
    const { pairs, tally, decision, unit, against } = this.told;
    if (!pairs.length) return;
    const names = { unit: unitName(unit.unit), against: unitName(against.unit) };
    replace(this.place, h("h2", {}, t("blind_title")), h("p", { class: "small" }, t("blind_lead", names)),
      tally ? this.result(tally, names) : this.pair(), this.decision(tally?.advice, decision, names));
  }

  result({ wins, ties, win_rate: rate, advice }, names) {
    const n = this.told.pairs.length;
    const values = { wins, ties, n, share: percent(rate.value), low: percent(rate.low), high: percent(rate.high), ...names };
    return h("div", { class: "verdict", role: "status" }, h("p", {}, t("blind_result", values)), h("p", {}, h("b", {}, t(`advice_${advice}`))));
  }

  pair() {
    const { pairs } = this.told;
    const due = this.due;
    const sides = ["left", "right"].map((side) => h("button", { class: "side quiet-keys", "aria-label": sideLabel(side === "right" ? 1 : 0), click: () => this.judge(due, side) }, h("img", { src: full(pairs[due][side]), alt: "", draggable: "false" })));
    this.zoom?.leave();
    this.zoom = new Zoom(sides);
    const next = pairs[due + 1];
    if (next) [next.left, next.right].forEach((digest) => prepared({ digest }));
    return h("section", { class: "pair blind quiet-keys" }, h("p", { class: "count", role: "status" }, t("blind_count", { n: due + 1, of: pairs.length })), h("div", { class: "sides" }, sides),
      h("div", { class: "act" }, [["left", "←", sideWords(0)], ["tie", "↑", t("tie")], ["right", "→", sideWords(1)]].map(([word, key, words]) => h("button", { class: "plain", click: () => this.judge(due, word) }, words, h("kbd", { "aria-hidden": "true" }, key))),
        h("button", { class: "plain", click: () => this.zoom.toggle() }, t("zoom"), h("kbd", { "aria-hidden": "true" }, "x")),
        h("button", { class: "plain", disabled: due === 0, click: () => this.judge(due - 1, "") }, t("undo"), h("kbd", { "aria-hidden": "true" }, "z"))));
  }

  decision(advice, decision, names) {
    const button = (word, key) => h("button", { class: advice === key ? "primary" : "", "aria-pressed": decision === key ? "true" : "false", click: () => this.decide(key) }, t(word, names));
    const said = decision === "open" ? t("undecided") : t(decision === "keep" ? "kept" : "rolled_back", { name: decision === "keep" ? names.unit : names.against });
    return h("div", { class: "decide" }, h("p", { role: "status" }, said), decision === "roll_back" ? null : h("div", { class: "inline" }, button("keep", "keep"), button("roll_back", "roll_back")));
  }

  judge(pair, choice) {
    return this.ask("NightVerdict", { pair, choice });
  }

  decide(decision) {
    return this.ask("NightDecide", { decision }, this.changed);
  }

  async ask(method, body, then = null) {
    if (this.busy) return;
    this.busy = true;
    try {
      this.told = await call(method, { night: this.night, ...body }, { timeout: 60000 });
      this.paint();
      then?.();
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    } finally {
      this.busy = false;
    }
  }

  key(name, event) {
    const due = this.due;
    if (due < 0) return false;
    if (this.zoom?.key(name, event)) return true;
    if (name === "z" && due > 0) this.judge(due - 1, "");
    else if (["left", "right", "up"].includes(name)) this.judge(due, name === "up" ? "tie" : name);
    else return false;
    return true;
  }
}
