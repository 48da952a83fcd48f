// The picture of the map: regions below, then images as points, then the mark of the one that is chosen.

import { s, replace } from "../../ui/dom.js";
import { numberOf } from "../../data/labels.js";

const MARGIN = 26;
const REACH = 28;  // pixels around a tap in which an image is meant
export const LIKED = 3;  // as many make an island

export class Scatter {
  constructor(label, chosen) {
    this.chosen = chosen;
    this.layers = { regions: s("g"), rings: s("g"), points: s("g"), mark: s("g") };
    this.svg = s("svg", { class: "map", role: "img", "aria-label": label, click: (event) => this.tapped(event) }, Object.values(this.layers));
    this.watcher = new ResizeObserver(() => this.fit());
    this.watcher.observe(this.svg);
    this.state = { points: [], regions: [], colours: "yours", unit: "", region: null };
  }

  leave() {
    this.watcher.disconnect();
  }

  show(state) {
    Object.assign(this.state, state);
    this.width = 0;
    this.fit();
  }

  // One scale for both directions; the picture is as wide as its place, and drawn anew where that changes.
  fit() {
    const width = Math.round(this.svg.clientWidth);
    if (!width || width === this.width) return;
    this.width = width;
    this.height = Math.round(Math.max(300, Math.min(0.72 * width, 560)));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    const { points } = this.state;
    const range = (name) => points.reduce(([low, high], point) => [Math.min(low, point[name]), Math.max(high, point[name])], [Infinity, -Infinity]);
    const [left, right] = range("x");
    const [bottom, top] = range("y");
    const scale = Math.min((width - 2 * MARGIN) / (right - left || 1e-6), (this.height - 2 * MARGIN) / (top - bottom || 1e-6));
    this.scale = Number.isFinite(scale) ? scale : 1;
    this.middle = points.length ? [(left + right) / 2, (bottom + top) / 2] : [0, 0];
    for (const point of points) [point.cx, point.cy] = this.at(point.x, point.y);
    this.paint();
  }

  at(x, y) {
    return [this.width / 2 + this.scale * (x - this.middle[0]), this.height / 2 - this.scale * (y - this.middle[1])];
  }

  paint() {
    const { points, regions, unit, region } = this.state;
    const radius = Math.max(2.4, Math.min(4.5, this.width / 180));
    this.radius = radius;
    replace(this.layers.regions, regions.filter((one) => one.island || one.liked >= LIKED || one.region === region).flatMap((one) => {
      const [cx, cy] = this.at(one.x, one.y);
      const around = { cx, cy, r: Math.max(14, this.scale * one.radius) };
      return [one.liked >= LIKED && s("circle", { ...around, class: "liked" }), one.island && s("circle", { ...around, class: "isle" }), one.region === region && s("circle", { ...around, class: "here" })];
    }));
    replace(this.layers.rings, unit ? points.filter((point) => point.unit === unit).map((point) => s("circle", { cx: point.cx, cy: point.cy, r: radius + 2.6, class: "made" })) : []);
    for (const point of points) {
      point.dot = s("circle", { cx: point.cx, cy: point.cy, r: radius });
      this.colour(point);
    }
    replace(this.layers.points, points.map((point) => point.dot));
    this.mark(this.marked);
  }

  // Yours are rimmed; what is only expected is the fainter the less the rater is sure; of what nobody knows the rim alone.
  colour(point) {
    const grade = numberOf(point.grade);
    const guess = point.utility ? Math.min(5, Math.max(1, Math.round(point.utility))) : 0;
    const number = this.state.colours === "expected" ? guess : grade || guess;
    const kind = grade ? "said" : guess ? `thought ${point.std < 0.5 ? "sure" : point.std < 0.9 ? "unsure" : "doubtful"}` : "open";
    point.dot.setAttribute("class", `${kind} g${number}${this.state.region !== null && point.region !== this.state.region ? " aside" : ""}`);
  }

  mark(point) {
    this.marked = point;
    replace(this.layers.mark, point ? s("circle", { cx: point.cx, cy: point.cy, r: this.radius + 5, class: "chosen" }) : []);
  }

  tapped(event) {
    const place = this.svg.getBoundingClientRect();
    const [x, y] = [event.clientX - place.left, event.clientY - place.top];
    const [nearest, distance] = closest(this.state.points, (point) => Math.hypot(point.cx - x, point.cy - y));
    if (nearest && distance <= REACH) this.chosen(nearest);
  }

  // The nearest image that lies rather there than aside.
  towards(from, name) {
    const [dx, dy] = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] }[name];
    const ahead = this.state.points.filter((point) => (point.cx - from.cx) * dx + (point.cy - from.cy) * dy > 0.5);
    const far = (point) => {
      const along = (point.cx - from.cx) * dx + (point.cy - from.cy) * dy;
      return along + 3 * Math.abs((point.cx - from.cx) * dy + (point.cy - from.cy) * dx);
    };
    return closest(ahead, far)[0];
  }

  nearestUngraded(from) {
    const open = this.state.points.filter((point) => point !== from && !numberOf(point.grade));
    return closest(open, (point) => Math.hypot(point.cx - from.cx, point.cy - from.cy))[0];
  }
}

function closest(points, far) {
  let [found, least] = [null, Infinity];
  for (const point of points) {
    const distance = far(point);
    if (distance < least) [found, least] = [point, distance];
  }
  return [found, least];
}
