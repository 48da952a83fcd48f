// Two pictures beside each other, or one above the other where a screen is narrow: what each is called.

import { h } from "./dom.js";
import { t } from "../i18n/i18n.js";

const isNarrow = () => matchMedia("(max-width: 46rem)").matches;

// The word on a button: style.css shows the one that fits.
export const sideWords = (place) => [
  h("span", { class: "when-wide" }, t(place ? "right" : "left")),
  h("span", { class: "when-narrow" }, t(place ? "stacked_second" : "stacked_first")),
];

export const sideLabel = (place) => t(isNarrow() ? (place ? "pair_lower" : "pair_upper") : (place ? "pair_right" : "pair_left"));
