// The library's search: a box for words where the embedder reads them, what was looked for, and the way back to all.

import { call } from "../data/connect.js";
import { h, replace } from "./dom.js";
import { t } from "../i18n/i18n.js";
import { small } from "./picture.js";
import { taste } from "../prefs.js";

const MOST_LETTERS = 1000;  // of words; what the embedder reads is less, and it says so
const DIGEST = /^[0-9a-f]{64}$/;

// Where the library shows what is most like an image, and what some words describe best.
export const likeHash = (digest) => `#library/like/${digest}`;
export const wordsHash = (words) => `#library/words/${encodeURIComponent(words)}`;

// What the address asks for: { words }, { like } or nothing.
export function asked() {
  const [, kind, ...rest] = location.hash.slice(1).split("/");
  if (kind === "like" && DIGEST.test(rest[0] ?? "")) return { like: rest[0] };
  if (kind !== "words") return null;
  try {
    const words = decodeURIComponent(rest.join("/")).trim();
    return words ? { words } : null;
  } catch {
    return null;  // no address this page made
  }
}

export function request(query, count, skip) {
  const what = query.like ? { image: { digest: query.like } } : { text: query.words };
  return { taste: taste(), ...what, count, skip, withScores: true };
}

// Returns the box, filled with what is looked for, and asks whether words can be.
export function searchBox(query) {
  const input = h("input", { type: "text", id: "search-words", maxlength: MOST_LETTERS, enterkeyhint: "search", autocomplete: "off", value: query?.words ?? "" });
  const button = h("button", { type: "submit" }, t("search_go"));
  const why = h("div", { class: "small", id: "search-why", hidden: true });
  const search = (event) => {
    event.preventDefault();
    const words = input.value.trim();
    location.hash = words ? wordsHash(words) : "#library";
  };
  const box = h("form", { class: "search", role: "search", submit: search },
    h("label", { for: input.id }, t("search_words")), h("div", { class: "words" }, input, button), why,
    query ? h("p", { class: "looked-for" },
      query.like ? h("img", { src: small(query.like), alt: "", width: 48, height: 48 }) : null,
      h("span", {}, query.like ? t("search_like") : t("search_for", { words: query.words })),
      h("a", { class: "button", href: "#library" }, t("search_all"))) : null);
  refuse(input, button, why).catch(() => {});  // who cannot be asked now answers the search itself
  return box;
}

// Where the taste's embedder reads no words the box says so, and what to run for one that does.
async function refuse(input, button, why) {
  const { embedder, reads_text: reads, text_lines: lines = [] } = await call("EmbedderAdvice", { taste: taste() }, { timeout: 120000 });
  if (reads !== false) return;
  input.disabled = button.disabled = true;
  input.setAttribute("aria-describedby", why.id);
  replace(why, h("p", {}, t("search_no_text", { name: embedder })), h("pre", {}, h("code", {}, lines.join("\n"))));
  why.hidden = false;
}
