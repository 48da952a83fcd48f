// The first steps, from one's own pictures to a first night: what the grades mean, pictures, an eye, thirty grades, a night.

import { call, stream } from "../data/connect.js";
import { LETTERS } from "../data/labels.js";
import { ENOUGH, enough, learnFrom, partOf, stepOf } from "../ui/next.js";
import { h, replace } from "../ui/dom.js";
import { brief, many, percent, t, whole } from "../i18n/i18n.js";
import { chip } from "./detail.js";
import { get, set, taste } from "../prefs.js";
import { uploader } from "../ui/uploader.js";

const LOOK = 4000;
const ORDER = ["pictures", "eye", "grade", "night"];

export async function show(main, current) {
  const view = new Guide(main, current);
  await view.begin();
  return view;
}

class Guide {
  constructor(main, current) {
    this.main = main;
    this.current = current;
    this.about = {};
    this.advice = null;
  }

  async begin() {
    this.way = uploader(() => this.look(true));
    this.now = h("div", { class: "now", role: "status" });
    this.eye = h("div", {});
    this.grades = h("div", {});
    this.night = h("div", {});
    const step = (name, ...content) => h("li", { "data-step": name }, h("h2", {}, t(`guide_${name}`)), ...content);
    this.steps = h("ol", { class: "steps" },
      step("grades", h("p", {}, t("guide_grades_lead")), meanings()),
      step("pictures", h("p", {}, t("guide_pictures_lead")), this.way.element),
      step("eye", h("p", {}, t("guide_eye_lead")), this.eye),
      step("grade", h("p", {}, t("guide_grade_lead")), this.grades),
      step("night", h("p", {}, t("guide_night_lead")), this.night));
    replace(this.main, h("div", { class: "sheet guide" }, h("h1", {}, t("guide")), h("p", { class: "lead" }, t("guide_lead")), this.now, this.steps,
      h("p", {}, h("button", { class: "plain", click: skip }, t("guide_skip")), " ", h("span", { class: "small" }, t("guide_again")))));
    await this.look(true);
  }

  // Asks how far the taste is; about the eye only where pictures may have come, since that looks at them.
  async look(anew = false) {
    clearTimeout(this.timer);
    const about = await call("RaterService/GetTaste", { name: taste() });
    if (!this.current()) return;
    const came = anew || about.imageCount !== this.about.imageCount || about.embedder !== this.about.embedder;
    const changed = came || JSON.stringify(about) !== JSON.stringify(this.about);
    this.about = about;
    if (came && get("eye") === taste()) this.paint();  // the eye is chosen: looking at the pictures changes no step
    if (came && !this.changing) await this.judge();
    if (!this.current()) return;
    if (changed) this.paint();
    clearTimeout(this.timer);  // another look may have ended meanwhile
    this.timer = setTimeout(() => this.look().catch(() => this.again()), LOOK);
  }

  again() {
    this.timer = setTimeout(() => this.look().catch(() => this.again()), 2 * LOOK);
  }

  async judge() {
    this.advice = Number(this.about.imageCount ?? 0) ? await call("EmbedderAdvice", { taste: taste() }, { timeout: 120000 }).catch((error) => ({ problem: error.message })) : null;
  }

  get step() {
    const step = stepOf(this.about);
    return step !== "pictures" && this.advice?.change && get("eye") !== taste() ? "eye" : step;
  }

  paint() {
    const { step } = this;
    const at = ORDER.indexOf(step === "learn" ? "grade" : step);
    for (const item of this.steps.children) {
      const place = ORDER.indexOf(item.dataset.step);
      item.classList.toggle("done", place >= 0 && place < at);
      item.classList.toggle("due", place === at);
      if (place === at) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
    replace(this.now, h("p", {}, h("b", {}, t("guide_next")), " ", t(`guide_next_${step}`)));
    if (!this.changing) replace(this.eye, this.ofEye());
    replace(this.grades, this.ofGrades());
    replace(this.night, h("p", {}, h("a", { class: step === "night" ? "button primary" : "button", href: "#night" }, t("go_night"))));
  }

  ofEye() {
    const { advice } = this;
    if (!advice) return h("p", { class: "small" }, t("guide_eye_later"));
    if (advice.problem) return h("p", {}, t("problem", { why: advice.problem }));
    const fact = advice.change ? t("guide_eye_foreign", { share: percent(advice.foreign_share) }) : t("guide_eye_fits", { name: advice.embedder || "starter" });
    const offers = advice.offers.map(({ embedder, reads_text: reads }, place) => h("button", { class: advice.change && !place ? "primary" : "", click: () => this.change(embedder) },
      t(reads ? "guide_eye_use_text" : "guide_eye_use", { name: embedder })));
    const beside = advice.second_embedder ? h("p", { class: "small", "data-eye": "second" }, t("guide_eye_second", { name: advice.second_embedder })) : null;
    const compare = advice.offers.filter(({ embedder }) => embedder !== (advice.second_embedder ?? "").split("@")[0]).map(({ embedder }) =>
      h("button", { class: "plain", click: () => this.change(embedder, true) }, t("guide_eye_compare", { name: embedder })));
    const run = advice.change && !offers.length ? [h("p", {}, t("guide_eye_run")), h("pre", {}, h("code", {}, advice.lines.join("\n")))] : null;
    const keep = h("button", { "data-eye": "keep", click: () => { set("eye", taste()); this.paint(); } }, t("guide_eye_keep"));
    return [h("p", {}, fact), beside, advice.change ? [run, h("div", { class: "inline" }, offers, get("eye") === taste() ? null : keep)]
      : offers.length ? h("details", {}, h("summary", {}, t("guide_eye_others")), h("div", { class: "inline" }, offers, compare)) : null];
  }

  // Changes over to an embedder, or keeps it as a second one, which the view Taste then holds against the one in use.
  async change(embedder, second = false) {
    this.changing = true;
    const told = h("p", { role: "status" }, t("guide_eye_changing", { name: embedder, part: "" }));
    const bar = h("progress", { "aria-label": t("guide_eye") });
    replace(this.eye, told, bar);
    try {
      for await (const { progress } of stream("RaterService/ChangeEmbedder", { taste: taste(), embedder, second, requestId: crypto.randomUUID() })) {
        if (!progress) continue;
        const { done = 0, total = 0 } = progress;
        told.textContent = t("guide_eye_changing", { name: embedder, part: partOf(progress) });
        if (Number(total)) [bar.max, bar.value] = [Number(total), Number(done)];
        else bar.removeAttribute("value");
      }
      this.changing = false;
      await this.look(true);
    } catch (error) {
      this.changing = false;
      replace(this.eye, h("p", {}, t("problem", { why: error.message })), this.ofEye());
    }
  }

  ofGrades() {
    const graded = Number(this.about.labelCount ?? 0);
    const pairs = Number(this.about.comparisonCount ?? 0);
    const learn = enough(this.about) && !this.about.activeRaterVersion;
    return [h("p", { class: "big", "data-graded": graded }, brief("guide_graded", { n: whole(graded), of: whole(ENOUGH) })),
      h("progress", { max: ENOUGH, value: Math.min(graded, ENOUGH), "aria-label": t("guide_grade") }),
      pairs ? h("p", { class: "small", "data-pairs": pairs }, many("guide_pairs", pairs)) : null,
      this.about.activeRaterVersion ? h("p", { class: "small" }, t("guide_learnt")) : null,
      h("div", { class: "inline" }, h("a", { class: this.step === "grade" ? "button primary" : "button", href: "#rate" }, t("go_grade")),
        learn ? h("button", { class: "primary", click: (event) => this.learn(event.currentTarget) }, learnFrom(this.about)) : null)];
  }

  async learn(button) {
    button.disabled = true;
    const told = h("p", { role: "status" }, t("fitting", { part: "" }));
    this.grades.append(told);
    try {
      for await (const { progress } of stream("RaterService/FitRater", { taste: taste(), requestId: crypto.randomUUID() })) {
        if (progress) told.textContent = t("fitting", { part: partOf(progress) });
      }
      await this.look(true);
    } catch (error) {
      told.textContent = t("problem", { why: error.message });
      button.disabled = false;
    }
  }

  leave() {
    clearTimeout(this.timer);
    this.way.leave();
  }
}

function meanings() {
  return h("dl", { class: "meanings" }, [1, 2, 3, 4, 5].map((n) => h("div", {}, h("dt", {}, chip(n), h("kbd", {}, n)), h("dd", {}, t(`means_${LETTERS[n].toLowerCase()}`)))));
}

function skip() {
  set("guide", "skipped");
  location.hash = "rate";
}
