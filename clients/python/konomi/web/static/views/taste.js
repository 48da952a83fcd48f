// The taste: how well the rater knows the owner, with intervals; what a few more grades bring; which version scores.

import { call, stream } from "../data/connect.js";
import { curve, reliability, shares, wilson } from "../ui/charts.js";
import { h, replace, toast } from "../ui/dom.js";
import { decimal, locale, percent, t, when, whole } from "../i18n/i18n.js";
import { LETTERS, numberOf } from "../data/labels.js";
import { learnFrom, nextStep, partOf, said, stepOf } from "../ui/next.js";
import { taste } from "../prefs.js";

const METRICS = ["retest_qwk", "qwk", "srcc", "auc_ssr", "ap_ur", "ece", "brier"];
const WHERE_MEASURED = ["pair_accuracy", "auc_pu"];
const SAMPLE = 400;
const BINS = 6;

export async function show(main, current) {
  const place = h("div", { class: "sheet" });
  replace(main, place);
  await paint(place, current);
  return null;
}

async function paint(place, current) {
  const [about, listed] = await Promise.all([call("RaterService/GetTaste", { name: taste() }), call("RaterService/ListRaterVersions", { taste: taste(), pageSize: 200 })]);
  const versions = listed.raterVersions ?? [];
  const active = versions.find((version) => version.active);
  const { alarms = [], embedders = [] } = active?.alarms?.length || active?.embedderComparison ? await saidBy(active) : {};
  const charts = h("div", { class: "charts" });
  const fitting = h("p", { role: "status" });
  replace(place, h("h1", {}, t("taste")), h("p", { class: "lead" }, t("taste_lead")),
    said(about) ? h("p", {}, h("button", { class: "primary", click: (event) => fit(event.currentTarget, fitting, () => paint(place, current)) }, learnFrom(about))) : null, fitting,
    active ? [metrics(active), ...priors(active), ...embedders.map((line) => h("p", { class: "prior" }, line))] : [h("p", {}, t("no_rater")), stepOf(about) === "learn" ? null : nextStep(stepOf(about))],
    alarms.length ? [h("h2", {}, t("alarms")), h("ul", {}, alarms.map((alarm) => h("li", {}, alarm)))] : null,
    charts, versions.length ? table(versions, () => paint(place, current)) : null);
  if (versions.length) charts.append(nShot(versions));
  if (active) charts.append(...await compared(current).catch((error) => [h("p", {}, t("problem", { why: error.message }))]));
}

// The alarms of a version, and its embedder beside a second one, in the reader's language; the alarms as the rater sent
// them where the page's server cannot say them.
async function saidBy(version) {
  return call("RaterAlarms", { version: version.name, language: locale() }).catch(() => ({ alarms: version.alarms }));
}

async function fit(button, told, done) {
  button.disabled = true;
  try {
    for await (const reply of stream("RaterService/FitRater", { taste: taste(), requestId: crypto.randomUUID() })) {
      if (reply.progress) told.textContent = t("fitting", { part: partOf(reply.progress) });
    }
    await done();
    toast(t("fitted"));
  } catch (error) {
    told.textContent = t("problem", { why: error.message });
    button.disabled = false;
  }
}

function metrics(version) {
  return h("div", { class: "cards" }, [...METRICS, ...WHERE_MEASURED.filter((name) => version.metrics?.[name])].map((name) => {
    const figure = version.metrics?.[name];
    return h("section", { class: "card" }, h("h2", {}, t(`metric_${name}`)),
      h("span", { class: "big" }, figure ? decimal(figure.value ?? 0) : "–"),
      h("p", {}, figure ? t("interval", { low: decimal(figure.low ?? 0), high: decimal(figure.high ?? 0), n: whole(figure.n ?? 0) }) : t("not_measured")),
      h("p", {}, !figure && name === "retest_qwk" ? t("retest_how") : t(`metric_${name}_note`)));
  }));
}

// What other people like, as far as the owner's own held-out grades gained by it when the version was fitted.
function priors(version) {
  return (version.populations ?? []).map((use) => h("p", { class: "prior" }, t(use.used ? "prior_used" : "prior_dropped", {
    name: (use.name ?? "").replace("populations/", ""), n: whole(use.gain?.n ?? 0), srcc: decimal(use.srcc ?? 0), without: decimal(use.srccWithout ?? 0) })));
}

function figure(title, picture, note) {
  return h("div", {}, h("h2", {}, title), h("figure", { class: "chart" }, picture, h("figcaption", {}, note)));
}

function nShot(versions) {
  const points = versions.filter((version) => version.metrics?.srcc).map((version) => {
    const { value = 0, low = 0, high = 0 } = version.metrics.srcc;
    return { x: Number(version.labelCount ?? 0), value, low, high };
  });
  const words = points.map((point) => `${whole(point.x)}: ${decimal(point.value)}`).join(", ");
  return figure(t("curve_title"), points.length ? curve(points, `${t("curve_title")}: ${words}`, t("grades_axis")) : t("not_measured"), t("curve_note"));
}

async function compared(current) {
  const filter = { grades: ["GRADE_N", "GRADE_R", "GRADE_SR", "GRADE_SSR", "GRADE_UR"] };
  const asked = { taste: taste(), orderBy: "digest", pageSize: SAMPLE, withScores: true };
  const [mine, all] = await Promise.all([call("RaterService/ListImages", { ...asked, filter, pageSize: 1000 }), call("RaterService/ListImages", asked)]);
  if (!current()) return [];
  const graded = mine.images ?? [];
  const sample = (all.images ?? []).filter((image) => image.score);
  const given = [1, 2, 3, 4, 5].map((grade) => graded.filter((image) => numberOf(image.grade) === grade).length / Math.max(1, graded.length));
  const expected = [0, 1, 2, 3, 4].map((place) => sample.reduce((sum, image) => sum + (image.score.gradeProbabilities?.[place] ?? 0), 0) / Math.max(1, sample.length));
  const words = given.map((share, place) => `${LETTERS[place + 1]} ${percent(share)} / ${percent(expected[place])}`).join(", ");
  const bins = binned(graded.filter((image) => image.score));
  const told = bins.map((bin) => `${percent(bin.said)} → ${percent(bin.came)} (${bin.n})`).join(", ");
  return [
    figure(t("shares_title"), shares(given, expected, LETTERS.slice(1), `${t("shares_title")}: ${words}`), t("shares_note", { n: whole(sample.length) })),
    figure(t("calibration_title"), reliability(bins, `${t("calibration_title")}: ${told}`, t("said_chance"), t("came_true")), t("calibration_note")),
  ];
}

function binned(images) {
  const told = images.map((image) => ({ chance: (image.score.gradeProbabilities ?? []).slice(3).reduce((a, b) => a + b, 0), good: numberOf(image.grade) >= 4 }))
    .sort((a, b) => a.chance - b.chance);
  const size = Math.ceil(told.length / BINS) || 1;
  return Array.from({ length: Math.ceil(told.length / size) }, (_, place) => {
    const part = told.slice(place * size, (place + 1) * size);
    const hits = part.filter((one) => one.good).length;
    const [low, high] = wilson(hits, part.length);
    return { said: part.reduce((sum, one) => sum + one.chance, 0) / part.length, came: hits / part.length, low, high, n: part.length };
  });
}

function table(versions, done) {
  const use = async (name) => {
    await call("RaterService/ActivateRaterVersion", { name, requestId: crypto.randomUUID() });
    await done();
  };
  return [h("h2", {}, t("versions")), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("versions") }, h("table", {},
    h("thead", {}, h("tr", {}, [["version", ""], ["grades", "num"], ["comparisons", "num"], ["head", ""], ["metric_srcc", "num"], ["made", ""]].map(([one, kind]) => h("th", { scope: "col", class: kind }, t(one))), h("td", {}))),
    h("tbody", {}, versions.map((version) => h("tr", {},
      h("th", { scope: "row" }, version.name.split("/").at(-1)), h("td", { class: "num" }, whole(version.labelCount ?? 0)), h("td", { class: "num" }, whole(version.comparisonCount ?? 0)), h("td", {}, t(`head_${version.head}`)),
      h("td", { class: "num" }, version.metrics?.srcc ? decimal(version.metrics.srcc.value ?? 0) : "–"), h("td", {}, when(version.createTime)),
      h("td", {}, version.active ? h("span", { class: "chip" }, t("active")) : h("button", { class: "plain", click: () => use(version.name) }, t("use_this"))))))))];
}
