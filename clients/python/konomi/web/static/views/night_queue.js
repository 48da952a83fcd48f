// The nights that wait their turn: in order, to be moved and taken out, and the button that begins.

import { call } from "../data/connect.js";
import { h, replace, toast } from "../ui/dom.js";
import { t } from "../i18n/i18n.js";

const OPEN = ["waiting", "running"];

export class Queue {
  // place: where it is shown; names: a system's name to its title; started: called once the queue was begun.
  constructor(place, names, started) {
    this.place = place;
    this.names = names;
    this.started = started;
    this.said = "";
  }

  async look() {
    this.paint(await call("NightQueue", {}));
  }

  paint(queue) {
    const said = JSON.stringify(queue);
    if (said === this.said) return;
    this.said = said;
    const focused = document.activeElement?.dataset?.queue;
    replace(this.place, queue.nights.length ? this.section(queue) : null);
    if (focused) this.place.querySelector(`[data-queue="${focused}"]`)?.focus();
  }

  section({ nights, runs }) {
    const waiting = nights.filter((night) => night.state === "waiting");
    const start = () => this.act(call("NightQueueStart", {}, { timeout: 60000 }).then(() => this.started()));
    return h("section", { class: "queue" }, h("h2", {}, t("queue")), h("p", { class: "small" }, t(runs ? "queue_runs" : "queue_note")),
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("queue") }, h("table", { class: "nights" }, h("tbody", {}, nights.map((night) => this.row(night, waiting))))),
      !runs && nights.some((night) => OPEN.includes(night.state)) ? h("button", { class: "primary", click: start }, t("queue_begin")) : null);
  }

  row(night, waiting) {
    const place = waiting.indexOf(night) + 1;
    const button = (word, what, disabled, mark) => h("button", { class: "plain", disabled, "data-queue": `${mark}-${night.id}`, "aria-label": t(word, { night: night.said }), title: t(word, { night: night.said }), click: () => this.act(what()) }, mark);
    const move = (to) => () => call("NightQueueMove", { id: night.id, place: to });
    const remove = () => call("NightQueueRemove", { id: night.id });
    return h("tr", {}, h("td", { class: "num" }, place || ""), h("th", { scope: "row" }, this.names(night.system), night.said === night.system ? null : h("small", {}, night.said)),
      h("td", {}, night.taste), h("td", {}, night.base), h("td", {}, t(night.state === "waiting" ? "queue_waits" : night.state)),
      h("td", {}, h("div", { class: "moves" }, place ? [button("queue_earlier", move(place - 1), place === 1, "↑"), button("queue_later", move(place + 1), place === waiting.length, "↓")] : null,
        night.state === "running" ? null : button("queue_remove", remove, false, "✕"))));
  }

  async act(promise) {
    try {
      const told = await promise;
      if (told?.nights) this.paint(told);
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
      await this.look();
    }
  }
}
