// The words of the page in the language in use, or in two side by side for those who learn the terms.

import { get } from "../prefs.js";

const SOURCE = "en";
const CJK = /[\u3005-\u30ff\u4e00-\u9fff]/;
const loaded = {};
let names = { [SOURCE]: "English" };

// The languages to choose from, value → name: each alone, and each beside English as "ja+en".
export function languages() {
  const others = Object.keys(names).filter((code) => code !== SOURCE);
  const pairs = others.map((code) => [`${code}+${SOURCE}`, `${names[code]} / ${names[SOURCE]}`]);
  return [...Object.entries(names), ...pairs];
}

// Fetches the words of the language in use; nothing is translated before it has ended. English must be there; a
// language that cannot be had is left out, and its words are English.
export async function load() {
  names = await words("languages").catch(() => names);
  loaded[SOURCE] ??= await words(SOURCE);
  await Promise.all(inUse().map(async (code) => { loaded[code] ??= await words(code).catch(() => undefined); }));
  document.documentElement.lang = locale();
}

export function t(key, values = {}) {
  return fill(beside(inUse().map((code) => word(code, key))), values);
}

// One language only, where there is no room for two.
export const brief = (key, values = {}) => fill(word(locale(), key), values);

// Words that hold a number: "units_made_one" where the language has its own for it, else "units_made".
export function many(key, n) {
  const form = (code) => `${key}_${new Intl.PluralRules(code).select(Number(n))}`;
  const texts = inUse().map((code) => (loaded[code] && form(code) in loaded[code] ? word(code, form(code)) : word(code, key)));
  return fill(beside(texts), { n: whole(n) });
}

// The language in use, without the one beside it.
export const locale = () => inUse()[0];

// The same words in each language in use, side by side.
export const beside = (texts) => [...new Set(texts)].join(" / ");

export function inUse() {
  const codes = get("language").split("+").filter((code) => code in names);
  return codes.length ? codes : [SOURCE];
}

const word = (code, key) => loaded[code]?.[key] ?? loaded[SOURCE]?.[key] ?? key;

async function words(file) {
  const reply = await fetch(`/static/i18n/${file}.json`);
  if (!reply.ok) throw new Error(`${file}.json: ${reply.status}`);
  return reply.json();
}

// A sentence leaves a space beside a Latin name; beside a Japanese one ("元のモデル") there is none.
function fill(text, values) {
  return text.replace(/( ?)\{(\w+)\}( ?)/g, (whole, before, name, after, at) => {
    if (values[name] === undefined || values[name] === null) return whole;
    const value = String(values[name]);
    const joined = (one, other) => CJK.test(one ?? "") && CJK.test(other ?? "");
    return (joined(text[at - 1], value[0]) ? "" : before) + value + (joined(value.at(-1), text[at + whole.length]) ? "" : after);
  });
}

export const whole = (value) => Number(value).toLocaleString(locale());
export const decimal = (value, digits = 2) => Number(value).toLocaleString(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const percent = (value) => `${Math.round(100 * value)} %`;

export function when(iso) {
  return iso ? new Date(iso).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" }) : "";
}

export function lasting(seconds) {
  if (seconds < 90) return brief("seconds", { n: Math.round(seconds) });
  if (seconds < 5400) return brief("minutes", { n: Math.round(seconds / 60) });
  return brief("hours", { n: decimal(seconds / 3600, 1) });
}
