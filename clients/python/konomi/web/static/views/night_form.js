// The form of a night: what it runs, from which base model, at which prompts, on which pictures; its plan and its trial.

import { call } from "../data/connect.js";
import { h, replace, toast } from "../ui/dom.js";
import { decimal, lasting, locale, t, whole } from "../i18n/i18n.js";
import { named, small } from "../ui/picture.js";
import { taste } from "../prefs.js";

const SEEDS = 5;
const OFFERED = 60;
const UR = "GRADE_UR";
const LIKED = ["GRADE_SSR", UR];
const BETA = 0.5;  // how far a night turns away from the worst; the command line takes other lengths
const LONG = 600000;  // a trial on a large base model takes minutes

export class NightForm {
  // started: called once a night was started; queued: with the queue once one was added; waits: whether one runs, so
  // that another can only be added.
  constructor(systems, started, queued, waits = false) {
    this.systems = systems;
    this.started = started;
    this.queued = queued;
    this.waits = waits;
    this.known = { bases: [], chosen: "", golden_minimum: 8, units: 3, images: 320, prompts: [], origin: "", ur: 0, pictures: [] };
    this.picked = { seeds: new Set(), concept: new Set() };
    this.told = h("div", { class: "told", role: "status" });
    this.more = h("div", {});
    this.tiles = h("fieldset", { class: "systems" });
    this.writing = h("div", {});
    this.bases = h("div", {});
    this.element = h("div", {}, this.parts());
    this.draw();
    this.ready = this.load();
  }

  // What the form knows of the taste and of this machine; what cannot be had is left out, and the form works without.
  async load() {
    const images = (grades, pageSize) => call("RaterService/ListImages", { taste: taste(), filter: { grades }, pageSize });
    const wanted = [call("NightBases", { language: locale() }), call("TastePrompts", { taste: taste() }), images([UR], 1), images(LIKED, OFFERED)];
    const [bases, prompts, ur, liked] = (await Promise.allSettled(wanted)).map((one) => one.value ?? {});
    this.preset(bases);
    Object.assign(this.known, bases, prompts, { ur: Number(ur.totalSize ?? 0), pictures: liked.images ?? [] });
    this.draw();
  }

  // How much a night makes where nobody says: as konomi.toml has it; what was typed meanwhile stays.
  preset(settings) {
    for (const id of ["units", "images"]) {
      const input = this.element.querySelector(`#${id}`);
      if (settings[id] && input.value === String(this.known[id])) input.value = settings[id];
    }
  }

  parts() {
    const amount = (id, word, { value = "", min, max, step = 1 }) => h("label", { for: id }, t(word), h("input", { type: "number", name: "amount", id, min, max, step, value }));
    return [this.waits ? null : h("h2", {}, t("start_night")), this.tiles, this.more, this.bases, this.writing,
      h("p", { class: "small" }, t("unit_note")), h("div", { class: "inline" }, amount("units", "units", { value: 3, min: 1, max: 10 }), amount("images", "images_each", { value: 320, min: 8, max: 10000 }), amount("hours", "budget_hours", { min: 0.5, max: 1000, step: 0.5 })),
      h("label", { class: "check", for: "contrast" }, h("input", { type: "checkbox", id: "contrast" }), h("span", {}, t("contrast"))), h("p", { class: "small" }, t("contrast_note")),
      h("details", {}, h("summary", {}, t("more_budgets")),
        h("div", { class: "inline" }, amount("budget_images", "budget_images", { min: 1, max: 10000000 }), amount("gpu_hours", "budget_gpu_hours", { min: 0.5, max: 1000, step: 0.5 }), amount("disk", "budget_disk", { min: 0.5, max: 100000, step: 0.5 })),
        h("div", { class: "inline wide" }, h("label", { for: "chain" }, t("chain"), h("input", { type: "text", id: "chain", placeholder: "longtail:2+golden:1", autocomplete: "off", spellcheck: false }))),
        h("p", { class: "small" }, t("chain_note"))),
      h("div", { class: "inline" }, h("button", { click: this.run(() => this.estimate()) }, t("plan_it")),
        h("button", { click: this.run(() => this.add()) }, t("queue_add")),
        this.waits ? null : h("button", { class: "primary", click: this.run(() => this.start()) }, t("start_night"))), this.told];
  }

  draw() {
    const chosen = this.system();
    replace(this.tiles, h("legend", { class: "unseen" }, t("system")), this.systems.map(({ name, title, note }, place) => h("label", {},
      h("input", { type: "radio", name: "system", value: name, checked: chosen ? name === chosen : place === 0, change: () => this.drawMore() }),
      h("b", {}, title), h("span", {}, note), this.lack(name) ? h("span", { class: "lack" }, this.lack(name)) : null)));
    replace(this.bases, this.baseChoice());
    replace(this.writing, this.promptEditor());
    this.drawMore();
  }

  drawMore() {
    const system = this.system();
    replace(this.more, system === "propagate" ? this.seedChoice() : system === "concepts" ? this.conceptChoice() : null);
  }

  system() {
    return this.element?.querySelector("input[name=system]:checked")?.value ?? "";
  }

  // What a system lacks before it can start; "" where it lacks nothing.
  lack(name) {
    const { prompts, ur, golden_minimum: least } = this.known;
    if (name === "golden") return ur < least ? t("lacks_ur", { n: whole(ur), least: whole(least) }) : "";
    if (name === "propagate") return this.picked.seeds.size || (ur >= 1 && ur <= SEEDS) ? "" : t("lacks_seeds");
    if (name === "concepts") return this.picked.concept.size ? "" : t("lacks_concepts");
    return prompts.length ? "" : t("lacks_prompts");
  }

  baseChoice() {
    const { bases, chosen } = this.known;
    if (!bases.length) return null;
    const fit = { WHOLE: t("base_fits"), REDUCED: t("base_slow"), NONE: t("base_too_large") };
    const about = h("p", { class: "small" });
    const select = h("select", { id: "base", change: () => say() }, bases.map((base) => h("option", { value: base.id, selected: base.id === (this.base ?? chosen) },
      [base.id, fit[base.fit], base.hours ? t("base_hours", { n: decimal(base.hours, 1) }) : null].filter(Boolean).join(" · "))));
    const say = () => {
      this.base = select.value;
      replace(about, bases.find((base) => base.id === select.value)?.draws ?? "");
    };
    say();
    return [h("div", { class: "inline wide" }, h("label", { for: "base" }, t("base"), select)), about, bases.length === 1 ? h("p", { class: "small" }, t("base_more")) : null];
  }

  promptEditor() {
    const { prompts, origin } = this.known;
    const from = { kept: "prompts_kept", pictures: "prompts_pictures", suggested: "prompts_suggested" }[origin];
    const box = h("textarea", { id: "prompts", rows: Math.min(8, Math.max(3, prompts.length)), spellcheck: false, placeholder: t("prompts_example") });
    box.value = prompts.join("\n");
    const keep = this.run(async () => {
      const lines = box.value.split("\n").map((line) => line.trim()).filter(Boolean);
      Object.assign(this.known, await call("TastePromptsKeep", { taste: taste(), prompts: lines }));
      this.draw();
      toast(t("prompts_saved"));
    });
    return [h("div", { class: "inline wide" }, h("label", { for: "prompts" }, t("prompts"), box)),
      h("p", { class: "small" }, from ? t(from) : t("prompts_none"), " ", h("button", { class: "plain", click: keep }, t("prompts_keep")))];
  }

  pictures(images, picked, most) {
    const toggle = (digest) => (event) => {
      if (picked.has(digest)) picked.delete(digest);
      else if (picked.size < most) picked.add(digest);
      else return toast(t("at_most", { n: whole(most) }));
      event.currentTarget.setAttribute("aria-pressed", String(picked.has(digest)));
      for (const lack of this.tiles.querySelectorAll("input")) this.relack(lack);
      return undefined;
    };
    return h("div", { class: "samples" }, images.map((image) => h("button", { type: "button", "aria-pressed": String(picked.has(image.digest)), "aria-label": named(image), click: toggle(image.digest) },
      h("img", { src: small(image.digest), alt: "", loading: "lazy" }))));
  }

  // A tile says what it lacks as soon as that changes, without losing the focus.
  relack(input) {
    const words = this.lack(input.value);
    const place = input.parentElement.querySelector(".lack");
    if (place) replace(place, words);
    else if (words) input.parentElement.append(h("span", { class: "lack" }, words));
  }

  seedChoice() {
    const images = this.known.pictures.filter((image) => image.grade === UR);
    return [h("p", {}, t("pick_seeds")), images.length ? this.pictures(images, this.picked.seeds, SEEDS) : h("p", { class: "small" }, t("no_ur"))];
  }

  conceptChoice() {
    const field = (id, word, example) => h("label", { for: id }, t(word), h("input", { type: "text", id, placeholder: example, autocomplete: "off", spellcheck: false, value: this[id] ?? "", input: (event) => { this[id] = event.target.value; } }));
    return [h("p", {}, t("pick_concept")), h("div", { class: "inline" }, field("concept_word", "concept_word", "tama"), field("concept_class", "concept_class", "cat")),
      this.known.pictures.length ? this.pictures(this.known.pictures, this.picked.concept, 100) : h("p", { class: "small" }, t("no_liked"))];
  }

  // What is asked for; what nobody changed is left to the server.
  asked() {
    const wish = { system: this.system() };
    for (const input of this.element.querySelectorAll("input[name=amount]")) if (input.value && input.value !== String(this.known[input.id])) wish[input.id] = Number(input.value);
    if (this.element.querySelector("#contrast").checked) wish.contrast = BETA;
    if (this.base && this.base !== this.known.chosen) wish.base = this.base;
    const chain = this.element.querySelector("#chain").value.replaceAll(" ", "");
    if (!chain) return wish;
    delete wish.units;
    return { ...wish, system: chain };
  }

  learning() {
    const { system } = this.asked();
    if (system.includes("propagate") && this.picked.seeds.size) return { seed_images: [...this.picked.seeds] };
    if (system.includes("concepts") && this.picked.concept.size) return { concepts: [{ word: this.concept_word ?? "", class: this.concept_class ?? "", images: [...this.picked.concept] }] };
    return {};
  }

  async estimate() {
    const plan = await call("NightPlan", this.asked(), { timeout: 120000 });
    const below = h("div", {});
    replace(this.told, this.plan(plan), below);
    replace(below, h("p", { class: "small" }, t("trying")));
    const tried = await this.trial().catch((error) => replace(below, h("p", { class: "small" }, t("problem", { why: error.message }))) && null);
    if (tried) replace(below, this.shown(tried));
  }

  trial() {
    return call("NightTrial", { ...this.asked(), ...this.learning(), taste: taste(), language: locale() }, { timeout: LONG });
  }

  shown(tried) {
    if (!tried.needed) return null;
    return [h("p", { class: tried.warning ? "verdict" : "small" }, tried.sentence),
      h("div", { class: "samples" }, tried.digests.map((digest) => h("img", { src: small(digest), alt: "", loading: "lazy" }))),
      tried.warning ? tried.figures.map((line) => h("p", { class: "small" }, line)) : null];
  }

  async start(anyway = false) {
    if (!anyway) {
      replace(this.told, h("p", { class: "small" }, t("trying")));
      const tried = await this.trial();
      if (tried.warning) {
        replace(this.told, this.shown(tried), h("button", { click: this.run(() => this.start(true)) }, t("all_the_same")));
        return;
      }
    }
    await call("NightStart", { ...this.asked(), ...this.learning(), ...(anyway ? { anyway } : {}), taste: taste() }, { timeout: 60000 });
    await this.started();
  }

  async add() {
    const queue = await call("NightQueueAdd", { ...this.asked(), ...this.learning(), taste: taste() }, { timeout: 120000 });
    replace(this.told, h("p", { class: "small" }, t("queue_added", { place: queue.nights.filter((night) => night.state === "waiting").length })));
    this.queued(queue);
  }

  run(work) {
    return async (event) => {
      const button = event.currentTarget;
      button.disabled = true;
      try {
        await work();
      } catch (error) {
        replace(this.told, h("p", { class: "verdict" }, t("problem", { why: error.message })));
      } finally {
        button.disabled = false;
      }
    };
  }

  plan(plan) {
    const card = (word, value) => value === null || value === undefined ? null : h("section", { class: "card" }, h("h3", {}, t(word)), h("span", { class: "big" }, value));
    return [h("div", { class: "cards" }, card("plan_images", whole(plan.images)), card("plan_steps", whole(plan.training_steps)),
      plan.seconds === null ? h("section", { class: "card" }, h("h3", {}, t("plan_time")), h("p", {}, t("unknown_time"))) : card("plan_time", lasting(plan.seconds)),
      plan.gpu_hours ? card("plan_gpu", lasting(3600 * plan.gpu_hours)) : null,
      plan.disk_bytes ? card("plan_disk", `${whole(Math.ceil(plan.disk_bytes / 1e6))} MB`) : null, plan.kwh ? card("plan_kwh", `${decimal(plan.kwh)} kWh`) : null, plan.cost ? card("plan_cost", decimal(plan.cost)) : null),
    plan.ends_by.map((name) => h("p", { class: "verdict" }, t("ends_by", { budget: t(`budget_${name.replace("disk_gib", "disk")}`) })))];
  }
}
