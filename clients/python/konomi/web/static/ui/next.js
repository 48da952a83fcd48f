// What an empty view says: the next step, and the way there. The steps of the way in, and which of them is due.

import { call } from "../data/connect.js";
import { h } from "./dom.js";
import { many, percent, t, whole } from "../i18n/i18n.js";
import { taste } from "../prefs.js";

export const ENOUGH = 30;
export const FEW = 5;
// Pairs a rater is fitted from where there are no grades.
export const PAIRS = 10;

// Where each step is taken.
const WHERE = { pictures: "add", grade: "rate", learn: "taste", night: "night", lineage: "lineage" };

// Returns a sentence and the link to where it is done.
export function nextStep(step) {
  return h("p", { class: "next" }, h("span", {}, t(`next_${step}`)), " ", h("a", { class: "button", href: `#${WHERE[step]}` }, t(`go_${step}`)));
}

// The step that is due in a taste: bring pictures, grade about thirty, let the rater learn, start a night.
export function stepOf(about) {
  if (!Number(about.imageCount ?? 0)) return "pictures";
  if (about.activeRaterVersion) return "night";
  return enough(about) ? "learn" : "grade";
}

// Whether enough was said for a first rater: grades, or pairs.
export function enough(about) {
  return Number(about.labelCount ?? 0) >= ENOUGH || Number(about.comparisonCount ?? 0) >= PAIRS;
}

// Whether anything was said to learn from.
export function said(about) {
  return Number(about.labelCount ?? 0) + Number(about.comparisonCount ?? 0) > 0;
}

// What the button says that lets the rater learn: from grades, from pairs, or from both.
export function learnFrom(about) {
  const [grades, pairs] = [Number(about.labelCount ?? 0), Number(about.comparisonCount ?? 0)];
  if (grades && pairs) return t("fit_both", { n: whole(grades), pairs: whole(pairs) });
  return pairs ? many("fit_pairs", pairs) : many("fit", grades);
}

// How much of a long piece of work is done; nothing where it cannot be said.
export function partOf({ done = 0, total = 0 }) {
  return Number(total) ? percent(Number(done) / Number(total)) : "";
}

// The same step, asked of the rater; nothing where it cannot be asked.
export async function due() {
  try {
    return stepOf(await call("RaterService/GetTaste", { name: taste() }));
  } catch {
    return "pictures";
  }
}
