// The lineage: every unit under the one it learned from, drawn as a graph; one of them is in use.

import { call } from "../data/connect.js";
import { chip, openDetail } from "./detail.js";
import { h, replace, s, toast } from "../ui/dom.js";
import { decimal, percent, t, when, whole } from "../i18n/i18n.js";
import { numberOf } from "../data/labels.js";
import { idOf, isFitted, models } from "../ui/models.js";
import { named, small } from "../ui/picture.js";
import { due, nextStep } from "../ui/next.js";
import { taste } from "../prefs.js";

const WIDE = 172;
const HIGH = 62;
const GAP_X = 34;
const GAP_Y = 46;

export async function show(main, current) {
  const graph = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("lineage_graph") });
  const about = h("div", { "aria-live": "polite" });
  replace(main, h("div", { class: "sheet" }, h("h1", {}, t("lineage")), h("p", { class: "lead" }, t("lineage_lead")), h("div", { class: "tree" }, graph, about)));
  await paint(graph, about, current);
  return null;
}

async function paint(graph, about, current) {
  const found = await models(true);
  if (!current()) return;
  if (!found.length) {
    const step = await due();
    replace(graph, h("p", {}, t("lineage_none")), nextStep(step));
    return;
  }
  replace(graph, draw(found, (model) => tell(about, model, current, () => paint(graph, about, current))));
  await tell(about, found.find((model) => model.current) ?? found[0], current, () => paint(graph, about, current));
}

// Depth is the longest way from a base model; siblings stand side by side in order of age.
export function laidOut(found) {
  const byId = new Map(found.map((model) => [idOf(model), model]));
  const parentsOf = (model) => (model.parents ?? []).map((parent) => parent.replace("models/", "")).filter((parent) => byId.has(parent));
  const depths = new Map();
  const depth = (id, seen = new Set()) => {
    if (depths.has(id)) return depths.get(id);
    if (seen.has(id)) return 1;
    seen.add(id);
    const above = parentsOf(byId.get(id)).map((parent) => depth(parent, seen));
    depths.set(id, 1 + Math.max(0, ...above));
    return depths.get(id);
  };
  const bases = [...new Set(found.map((model) => model.baseModel || "starter"))];
  const nodes = bases.map((base, place) => ({ id: `base:${base}`, name: base, row: 0, column: place, model: null }));
  const filled = new Map();
  for (const model of [...found].reverse()) {
    const row = depth(idOf(model));
    const column = filled.get(row) ?? 0;
    filled.set(row, column + 1);
    nodes.push({ id: idOf(model), name: model.displayName || idOf(model).slice(0, 12), row, column, model });
  }
  const edges = found.flatMap((model) => {
    const parents = parentsOf(model);
    return (parents.length ? parents : [`base:${model.baseModel || "starter"}`]).map((parent) => [parent, idOf(model)]);
  });
  return { nodes, edges };
}

function draw(found, choose) {
  const { nodes, edges } = laidOut(found);
  const columns = Math.max(...nodes.map((node) => node.column)) + 1;
  const rows = Math.max(...nodes.map((node) => node.row)) + 1;
  const width = columns * (WIDE + GAP_X);
  const height = rows * (HIGH + GAP_Y);
  const spot = new Map(nodes.map((node) => [node.id, [node.column * (WIDE + GAP_X) + GAP_X / 2, node.row * (HIGH + GAP_Y) + 4]]));
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": t("lineage_graph") },
    edges.map(([from, to]) => {
      const [x1, y1] = [spot.get(from)[0] + WIDE / 2, spot.get(from)[1] + HIGH];
      const [x2, y2] = [spot.get(to)[0] + WIDE / 2, spot.get(to)[1]];
      return s("path", { class: "edge", d: `M${x1} ${y1} C${x1} ${y1 + GAP_Y / 2} ${x2} ${y2 - GAP_Y / 2} ${x2} ${y2}` });
    }),
    nodes.map((node) => box(node, spot.get(node.id), choose)));
  svg.style.width = `${width}px`;
  svg.style.maxWidth = "none";
  return svg;
}

function box(node, [x, y], choose) {
  const win = node.model?.metrics?.win_rate ?? node.model?.metrics?.wins;
  const sub = !node.model ? t("base") : node.model.current ? t("in_use") : win ? t("won", { share: percent(win) }) : when(node.model.createTime);
  const act = node.model ? {
    role: "button", tabindex: 0, "aria-label": `${node.name}${node.model.current ? `, ${t("in_use")}` : ""}`,
    click: () => choose(node.model), keydown: (event) => { if (["Enter", " "].includes(event.key)) { event.preventDefault(); choose(node.model); } },
  } : {};
  return s("g", { class: `node ${node.model?.current ? "now" : ""}`, ...act },
    s("rect", { x, y, width: WIDE, height: HIGH, rx: 14 }), s("text", { x: x + 16, y: y + 27 }, node.name), s("text", { x: x + 16, y: y + 46, class: "sub" }, sub));
}

// What its night knows of a unit; nothing where no night of this home made it.
async function made(model) {
  const { night } = model.night ? await call("NightStatus", { night: model.night }).catch(() => ({})) : {};
  return night?.figures?.find((unit) => unit.model === idOf(model)) ?? {};
}

// A unit that no later one learned from has pictures in its night alone.
const sampled = ({ sample = [] }) => sample.slice(0, 12).map((digest) => h("li", {}, h("img", { src: small(digest), alt: t("image") })));

// Which checkpoint of its fit a unit is, where its night chose one.
const stopped = ({ checkpoints }) => (checkpoints ? [h("dt", {}, t("kept_after")), h("dd", {}, t("kept_step", { kept: whole(checkpoints.kept), steps: whole(checkpoints.steps) }))] : []);

const FIGURES = { win_rate: percent, vendi: (value) => decimal(value, 1), exceedance: percent, doubt: decimal, images: whole, steps: whole, loss: decimal };
const METHODS = { LORA: "LoRA", DORA: "DoRA", LOHA: "LoHa", LOKR: "LoKr", CUSTOM_DIFFUSION: "Custom Diffusion", CONCEPT_LORA: "LoRA" };

// What a person asks of a unit; the trainer's own counters are left out.
function measured(metrics) {
  const known = Object.keys(FIGURES).filter((name) => metrics[name] !== undefined);
  return known.map((name) => `${t(`figure_${name}`)} ${FIGURES[name](metrics[name])}`).join(" · ");
}

async function tell(about, model, current, done) {
  const row = (word, value) => (value ? [h("dt", {}, t(word)), h("dd", {}, value)] : null);
  const best = h("ul", { class: "strip" });
  const facts = h("dl", { class: "facts" });
  const method = (model.method ?? "").replace("TRAINING_METHOD_", "");
  const use = async () => {
    try {
      await call("TrainerService/PromoteModel", { name: model.name, requestId: crypto.randomUUID() });
      await done();
      toast(t("kept", { name: model.displayName }));
    } catch (error) {
      toast(t("problem", { why: error.message }), "bad");
    }
  };
  replace(about, h("h2", {}, model.displayName || idOf(model)),
    h("p", {}, model.current ? h("span", { class: "chip" }, t("in_use")) : h("button", { click: use }, t("serve_this"))),
    replace(facts, row("made", when(model.createTime)), row("method", METHODS[method] ?? method), row("base", model.baseModel), row("figures", measured(model.metrics ?? {})),
      row("rater_version", (model.raterVersion ?? "").split("/").at(-1)), row("seed", model.seed), row("night", (model.night ?? "").slice(0, 8)), row("manifest", h("code", {}, (model.manifestDigest ?? "").slice(0, 16))), row("digest", h("code", {}, (model.adapterDigest ?? "").slice(0, 16)))),
    h("h3", {}, t("best_of")), best);
  const asked = { taste: taste(), filter: { units: [idOf(model)] }, pageSize: 12 };
  const orderBy = await isFitted() ? "utility desc" : "create_time desc";
  const night = made(model).then((unit) => { facts.append(...stopped(unit)); return unit; });
  const { images = [] } = await call("RaterService/ListImages", { ...asked, orderBy });
  if (!current()) return;
  if (!images.length && model.night) {
    replace(best, sampled(await night));
    return;
  }
  replace(best, images.map((image) => h("li", {}, h("button", { "aria-label": named(image), click: () => openDetail(image.digest, current) },
    h("img", { src: small(image.digest), alt: "" }), numberOf(image.grade) ? chip(numberOf(image.grade)) : null))));
}
