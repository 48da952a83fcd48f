// The words of the page in the language in use: English, Japanese, or both side by side for those who learn the terms.

import { get } from "../prefs.js";
import { WORDS } from "./words.js";

export const LANGUAGES = ["en", "ja", "both"];

export function t(key, values = {}) {
  const [english, japanese] = WORDS[key] ?? [key, key];
  const language = get("language");
  if (language === "both" && english !== japanese) return `${fill(japanese, values)} / ${fill(english, values)}`;
  return fill(language === "en" ? english : japanese, values);
}

// One language only, where there is no room for two.
export function brief(key, values = {}) {
  const [english, japanese] = WORDS[key] ?? [key, key];
  return fill(get("language") === "en" ? english : japanese, values);
}

function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

const locale = () => (get("language") === "en" ? "en" : "ja");

export const whole = (value) => Number(value).toLocaleString(locale());
export const decimal = (value, digits = 2) => Number(value).toLocaleString(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const percent = (value) => `${Math.round(100 * value)}%`;

export function when(iso) {
  return iso ? new Date(iso).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" }) : "";
}

export function lasting(seconds) {
  if (seconds < 90) return brief("seconds", { n: Math.round(seconds) });
  if (seconds < 5400) return brief("minutes", { n: Math.round(seconds / 60) });
  return brief("hours", { n: decimal(seconds / 3600, 1) });
}
