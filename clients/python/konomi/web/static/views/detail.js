// One image in a dialog: itself, what the rater thinks of it and why, and where it came from.

import { call } from "../data/connect.js";
import { h, replace, toast } from "../ui/dom.js";
import { brief, decimal, percent, t, when } from "../i18n/i18n.js";
import { LETTERS, numberOf } from "../data/labels.js";
import { unitName } from "../ui/models.js";
import { copying } from "../ui/chosen.js";
import { isFavourite, load, turn } from "../ui/favourites.js";
import { fileName, full, named, small } from "../ui/picture.js";
import { taste } from "../prefs.js";
import { likeHash } from "../ui/search.js";
import { Zoom } from "../ui/zoom.js";

const NEIGHBOURS = 48;
const SHOWN = 5;

export async function openDetail(digest, current = () => true, closed = () => {}) {
  const body = h("div", {}, h("p", { class: "quiet" }, t("loading")));
  const dialog = h("dialog", { class: "detail", "aria-labelledby": "detail-title", close: () => { dialog.remove(); closed(); } },
    h("h2", { id: "detail-title" }, t("detail_title")), body,
    h("div", { class: "closing" }, h("button", { class: "primary", click: () => dialog.close() }, t("close"))));
  document.body.append(dialog);
  dialog.showModal();
  try {
    await fill(body, digest, current);
  } catch (error) {
    replace(body, h("p", {}, t("problem", { why: error.message })));
  }
}

async function fill(body, digest, current) {
  const image = await call("RaterService/GetImage", { taste: taste(), digest });
  const near = h("div", {});
  const look = h("div", { class: "look" }, h("img", { class: "main-picture", src: full(digest), alt: named(image), draggable: "false" }));
  const zoom = new Zoom([look]);
  look.addEventListener("dblclick", (event) => zoom.toggle(look, [event.clientX, event.clientY]));
  replace(body, h("div", { class: "two" },
    h("div", {}, look, h("p", { class: "small" }, h("button", { class: "plain", click: () => zoom.toggle() }, t("zoom")), " ",
      h("button", { click: (event) => { event.target.closest("dialog").close(); location.hash = likeHash(digest); } }, t("search_like_this")), " ", favour(digest), " ",
      h("a", { class: "button", href: full(digest), download: fileName(image) || digest.slice(0, 16) }, t("download"))),
      image.pixelsCollected && h("p", { class: "small" }, t("pixels_collected_note")), near),
    h("div", {}, verdict(image), facts(image, await unitName(image.unit)), copies(image))));
  const story = h("div", { class: "story" });
  body.querySelector(".two").lastElementChild.append(story);
  tell(story, digest).catch(() => {});
  const { hits = [] } = await call("RaterService/SearchImages", { taste: taste(), image: { digest }, count: NEIGHBOURS });
  if (!current() && !body.isConnected) return;
  const others = hits.filter((hit) => hit.image.digest !== digest);
  const graded = others.filter((hit) => numberOf(hit.image.grade)).slice(0, SHOWN);
  replace(near,
    h("h3", {}, t("why_title")), graded.length ? [h("p", { class: "small" }, t("why_lead")), strip(graded, body)] : h("p", { class: "small" }, t("why_none")),
    h("h3", {}, t("near_title")), strip(others.slice(0, SHOWN), body));
}

// What `konomi explain` says: every grade it was given, what it was made from, and the training sets it entered.
async function tell(place, digest) {
  const { labels, parents, training_sets: sets } = await call("Explain", { taste: taste(), digest });
  const graded = labels.map((label) => h("li", {}, t("graded_as", { grade: label.grade === "UNSPECIFIED" ? "–" : label.grade, who: label.labeller, time: when(label.create_time) }), label.undone ? ` (${t("taken_back")})` : null));
  const trained = sets.map((one) => h("li", {}, one.role === "avoided" ? t("turned_from", { name: one.display_name }) : t("trained_into", { name: one.display_name, n: one.images, role: t(`role_${one.role}`) })));
  const family = parents.map((parent) => h("li", {}, h("code", {}, parent.digest.slice(0, 12)), parent.prompt ? ` ${parent.prompt}` : null));
  const list = (word, items, none) => [h("h3", {}, t(word)), items.length ? h("ul", {}, items) : h("p", { class: "small" }, t(none))];
  replace(place, list("its_grades", graded, "never_graded"), list("its_training", trained, "never_trained"), family.length ? list("made_from", family, "") : null);
}

function strip(hits, body) {
  return h("ul", { class: "strip" }, hits.map((hit) => {
    const grade = numberOf(hit.image.grade);
    const words = `${named(hit.image)}, ${grade ? LETTERS[grade] : brief("not_graded")}, ${brief("similarity", { n: percent(hit.similarity ?? 0) })}`;
    return h("li", {}, h("button", { "aria-label": words, title: words, click: () => fill(body, hit.image.digest, () => true) },
      h("img", { src: small(hit.image.digest), alt: "", loading: "lazy" }), grade ? chip(grade) : null));
  }));
}

export function chip(grade) {
  return h("span", { class: `chip g${grade}` }, LETTERS[grade]);
}

function verdict(image) {
  const grade = numberOf(image.grade);
  const score = image.score;
  const parts = [h("h3", {}, t("your_grade")), h("p", {}, grade ? chip(grade) : t("not_graded")), h("h3", {}, t("score"))];
  if (!score) return [...parts, h("p", { class: "small" }, t("no_rater"))];
  const chances = score.gradeProbabilities ?? [0, 0, 0, 0, 0];
  return [...parts,
    h("p", {}, h("span", { class: "big" }, decimal(score.utility ?? 0)), " ", h("span", { class: "small" }, t("score_note", { doubt: decimal(score.std ?? 0) }))),
    score.unknown && h("p", { class: "small" }, t("unknown_note")),
    h("h3", {}, t("score_bars")),
    h("div", { class: "chances" }, chances.map((chance, place) => [
      chip(place + 1),
      h("meter", { class: `g${place + 1}`, min: 0, max: 1, value: chance, "aria-label": `${LETTERS[place + 1]} ${percent(chance)}` }),
      h("span", {}, percent(chance)),
    ])),
    h("dl", { class: "facts" },
      explained("lower_bound", "lower_bound_note", decimal(score.lowerBound ?? 0)), explained("typicality", "typicality_note", percent(score.typicality ?? 0)), explained("novelty", "novelty_note", decimal(score.novelty ?? 0, 3))),
  ];
}

function facts(image, unit) {
  const parameters = Object.entries(image.parameters ?? {}).map(([name, value]) => `${name} ${value}`).join(", ");
  return h("dl", { class: "facts" },
    row("file", image.path && [h("span", {}, image.path), " ", copied(fileName(image))]),
    row("prompt", image.prompt || t("no_prompt")),
    row("unit", unit), row("source", image.source ? t(image.source) : ""),
    row("seed", image.seed), row("size", `${image.width} × ${image.height}`), row("known_since", when(image.createTime)),
    row("night", (image.night ?? "").slice(0, 8)), row("licence", image.licence), row("parents", (image.parents ?? []).map((one) => one.slice(0, 12)).join(", ")),
    row("parameters", parameters), row("digest", h("code", {}, image.digest)));
}

function copies(image) {
  const words = [["copy_prompt", image.prompt], ["copy_seed", image.seed && String(image.seed)], ["copy_path", image.path], ["copy_digest", image.digest]];
  return h("p", { class: "small copies" }, words.filter(([, one]) => one).map(([word, one]) => [copying(word, one), " "]));
}

function favour(digest) {
  const star = h("button", { "aria-pressed": String(isFavourite(digest)), click: async () => {
    try {
      star.setAttribute("aria-pressed", String(await turn([digest])));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    }
  } }, `★ ${brief("favourite")}`);
  load().then(() => star.setAttribute("aria-pressed", String(isFavourite(digest)))).catch(() => {});
  return star;
}

// A button that puts a file's name on the clipboard, to look for it among one's own files.
function copied(name) {
  return h("button", { class: "small", click: async () => {
    try {
      await navigator.clipboard.writeText(name);
      toast(t("name_copied", { name }));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    }
  } }, t("copy_name"));
}

function explained(word, note, value) {
  return row(word, [value, " ", h("span", { class: "small" }, t(note))]);
}

function row(word, value) {
  return value ? [h("dt", {}, t(word)), h("dd", {}, value)] : null;
}
