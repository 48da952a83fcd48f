// Small charts as inline SVG, built element by element; each says in words what it shows.

import { s } from "./dom.js";
import { decimal, percent, whole } from "../i18n/i18n.js";

const WIDTH = 520;
const HEIGHT = 240;
const LEFT = 44;
const BOTTOM = 30;
const TOP = 12;
const RIGHT = 14;

const across = (share) => LEFT + share * (WIDTH - LEFT - RIGHT);
const up = (share) => HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);

function frame(label, ...parts) {
  return s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }, parts);
}

const word = (x, y, text, anchor = "middle") => s("text", { x, y, "text-anchor": anchor }, text);
const line = (x1, y1, x2, y2, kind) => s("line", { x1, y1, x2, y2, class: kind });

// Points { x, value, low, high } over a whole-number axis.
export function curve(points, label, axis) {
  const most = Math.max(...points.map((point) => point.x), 1);
  const lowest = Math.min(0, ...points.map((point) => point.low));
  const share = (value) => (value - lowest) / (1 - lowest);
  const order = [...points].sort((a, b) => a.x - b.x);
  const path = order.map((point, place) => `${place ? "L" : "M"}${across(point.x / most)} ${up(share(point.value))}`).join(" ");
  return frame(label,
    [0, 0.25, 0.5, 0.75, 1].map((value) => [line(LEFT, up(share(value)), WIDTH - RIGHT, up(share(value)), "axis"), word(LEFT - 8, up(share(value)) + 4, decimal(value), "end")]),
    order.map((point) => line(across(point.x / most), up(share(point.low)), across(point.x / most), up(share(point.high)), "span")),
    s("path", { d: path, class: "line" }),
    order.map((point) => s("circle", { cx: across(point.x / most), cy: up(share(point.value)), r: 4.5, class: "dot" })),
    order.filter((point, place) => place === 0 || place === order.length - 1).map((point) => word(across(point.x / most), HEIGHT - 10, `${whole(point.x)} ${axis}`, point.x === most ? "end" : "middle")));
}

// Shares of each grade: filled what was given, outlined what is expected.
export function shares(given, expected, names, label) {
  const most = Math.max(...given, ...expected, 0.01);
  const step = (WIDTH - LEFT - RIGHT) / names.length;
  const bar = (share, x, width, kind) => s("rect", { x, width, y: up(share / most), height: up(0) - up(share / most), rx: 5, class: kind });
  return frame(label, line(LEFT, up(0), WIDTH - RIGHT, up(0), "axis"), names.map((name, place) => {
    const x = LEFT + place * step;
    return s("g", { class: `g${place + 1}` }, bar(given[place], x + step * 0.14, step * 0.36, "yours"), bar(expected[place], x + step * 0.52, step * 0.34, "guessed"),
      word(x + step / 2, HEIGHT - 10, name), word(x + step * 0.32, up(given[place] / most) - 5, percent(given[place])));
  }));
}

// Reliability: stated chance across, what came true up; on the diagonal is honest.
export function reliability(bins, label, said, came) {
  const most = Math.max(...bins.map((bin) => bin.n), 1);
  return frame(label, line(across(0), up(0), across(1), up(1), "honest"),
    line(across(0), up(0), across(1), up(0), "axis"), line(across(0), up(0), across(0), up(1), "axis"),
    [0, 0.5, 1].map((value) => [word(across(value), HEIGHT - 10, percent(value)), word(LEFT - 8, up(value) + 4, percent(value), "end")]),
    bins.map((bin) => [line(across(bin.said), up(bin.low), across(bin.said), up(bin.high), "span"), s("circle", { cx: across(bin.said), cy: up(bin.came), r: 3 + 6 * Math.sqrt(bin.n / most), class: "dot" })]),
    word(across(0.5) + 40, HEIGHT - 10, said, "start"), word(across(0) + 8, up(1) + 4, came, "start"));
}

// Wilson's interval (1927) of hits out of n.
export function wilson(hits, n) {
  if (!n) return [0, 1];
  const z = 1.96;
  const p = hits / n;
  const centre = (p + z * z / (2 * n)) / (1 + z * z / n);
  const half = z * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}
