// Looking closer: one or several pictures at 100 % and beyond, moved together; by key, pinch, and drag.

import { toast } from "./dom.js";
import { percent } from "../i18n/i18n.js";

const MOST = 8;
const DRAG = 6;
const STEP = 60;

// Frames hold one <img> each, shown whole (object-fit: contain). What is looked at is the same share of every picture.
export class Zoom {
  constructor(frames) {
    this.frames = frames;
    this.far = 0;
    this.pointers = new Map();
    this.taken = false;  // a pinch or a drag, not a tap or a swipe
    this.reset();
    for (const frame of frames) {
      frame.classList.add("zoomable");
      frame.addEventListener("pointerdown", (event) => this.down(frame, event));
      frame.addEventListener("pointermove", (event) => this.moved(frame, event));
      for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) frame.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
      frame.addEventListener("click", (event) => this.clicked(event), true);
      frame.addEventListener("wheel", (event) => this.wheel(frame, event), { passive: false });
    }
    this.watcher = new ResizeObserver(() => this.apply());
    for (const frame of frames) this.watcher.observe(frame);
  }

  // Says whether pictures are larger than whole.
  get isOn() {
    return this.scale !== null;
  }

  leave() {
    this.watcher.disconnect();
  }

  reset() {
    this.scale = null;  // CSS pixels a pixel of a picture takes; null shows it whole
    this.centre = [0.5, 0.5];
    this.apply();
  }

  // Whole, or at 100 %; a picture that is not larger than its place is shown twice as large.
  toggle(frame = this.frames[0], point = null) {
    if (this.isOn) return this.reset();
    const fit = this.fit(frame);
    if (!fit) return undefined;
    if (point) this.centre = this.shareAt(frame, point);
    this.scale = fit < 0.95 ? 1 : 2 * fit;
    return this.apply();
  }

  // Takes x, and with Shift the arrows; says whether it did.
  key(name, event) {
    const way = { left: [STEP, 0], right: [-STEP, 0], up: [0, STEP], down: [0, -STEP] }[name];
    if (name === "x") this.toggle();
    else if (way && event?.shiftKey && this.isOn) this.shift(this.frames[0], ...way);
    else return false;
    return true;
  }

  picture(frame) {
    const picture = frame.querySelector("img");
    return picture?.naturalWidth && frame.clientWidth ? picture : null;
  }

  // CSS pixels a pixel takes where the picture is whole; 0 where there is none.
  fit(frame) {
    const picture = this.picture(frame);
    return picture ? Math.min(picture.offsetWidth / picture.naturalWidth, picture.offsetHeight / picture.naturalHeight) : 0;
  }

  apply() {
    for (const frame of this.frames) {
      const picture = this.picture(frame);
      if (!picture) continue;
      const fit = this.fit(frame);
      const times = this.isOn ? Math.max(1, this.scale / fit) : 1;
      const size = [picture.naturalWidth * fit, picture.naturalHeight * fit];
      const place = [picture.offsetWidth, picture.offsetHeight];
      const move = [0, 1].map((axis) => {
        const room = Math.max(0, (size[axis] * times - place[axis]) / 2);
        return Math.max(-room, Math.min(room, (0.5 - this.centre[axis]) * size[axis] * times));
      });
      picture.style.transform = times > 1 ? `translate(${move[0]}px, ${move[1]}px) scale(${times})` : "";
      frame.classList.toggle("zoomed", this.isOn);
    }
    if (this.isOn) toast(percent(this.scale));
  }

  // The share of the picture under a point of the screen.
  shareAt(frame, [x, y]) {
    const picture = this.picture(frame);
    const around = frame.getBoundingClientRect();
    const middle = [around.left + around.width / 2, around.top + around.height / 2];
    const scale = this.isOn ? Math.max(this.scale, this.fit(frame)) : this.fit(frame);
    const centre = this.isOn ? this.centre : [0.5, 0.5];
    return [centre[0] + (x - middle[0]) / (picture.naturalWidth * scale), centre[1] + (y - middle[1]) / (picture.naturalHeight * scale)].map(inside);
  }

  shift(frame, x, y) {
    const picture = this.picture(frame);
    if (!picture || !this.isOn) return;
    const scale = Math.max(this.scale, this.fit(frame));
    this.centre = [this.centre[0] - x / (picture.naturalWidth * scale), this.centre[1] - y / (picture.naturalHeight * scale)].map((share, axis) => {
      const half = Math.min(0.5, [frame.clientWidth, frame.clientHeight][axis] / (2 * [picture.naturalWidth, picture.naturalHeight][axis] * scale));
      return Math.max(half, Math.min(1 - half, share));
    });
    this.apply();
  }

  grow(frame, times, point) {
    const fit = this.fit(frame);
    if (!fit) return;
    const under = this.shareAt(frame, point);
    const scale = Math.min(MOST * Math.max(1, fit), (this.scale ?? fit) * times);
    if (scale <= fit * 1.02) {
      if (this.isOn) this.reset();
      return;
    }
    this.scale = scale;
    const after = this.shareAt(frame, point);
    this.centre = this.centre.map((share, axis) => inside(share + under[axis] - after[axis]));
    this.shift(frame, 0, 0);
  }

  down(frame, event) {
    if (event.isPrimary) {
      this.pointers.clear();
      this.taken = this.isOn && event.pointerType !== "mouse";
      this.far = 0;
    }
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pointers.size > 1) this.taken = true;
  }

  moved(frame, event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    this.far += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (other) {
      const apart = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
      this.grow(frame, apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    } else if (this.isOn) {
      if (this.far > DRAG) frame.setPointerCapture?.(event.pointerId);
      this.shift(frame, now[0] - before[0], now[1] - before[1]);
    }
  }

  // What ended a drag or a pinch chooses nothing.
  clicked(event) {
    if (!event.detail || this.far <= DRAG || !(this.isOn || this.taken)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  wheel(frame, event) {
    if (!event.ctrlKey) return;  // what a touchpad says of a pinch
    event.preventDefault();
    this.grow(frame, Math.exp(-event.deltaY / 200), [event.clientX, event.clientY]);
  }
}

const inside = (share) => Math.max(0, Math.min(1, share));
