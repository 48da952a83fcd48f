// One finger: a swipe of some length in one clear direction, and the hint that says what each does.

import { h } from "./dom.js";

const LEAST = 56;

// Seen where there is a finger: [[arrow, what it does]].
export function hint(ways) {
  return h("p", { class: "swipe-hint small", "aria-hidden": "true" }, ways.map(([arrow, words]) => h("span", {}, arrow, " ", words)));
}

// `unless` says that the finger did something else.
export function onSwipe(element, acts, unless = () => false) {
  let from = null;
  element.addEventListener("pointerdown", (event) => {
    from = event.isPrimary && event.pointerType !== "mouse" ? [event.clientX, event.clientY] : null;
  });
  element.addEventListener("pointerup", (event) => {
    if (!from) return;
    if (unless()) { from = null; return; }
    const [across, down] = [event.clientX - from[0], event.clientY - from[1]];
    from = null;
    if (Math.max(Math.abs(across), Math.abs(down)) < LEAST) return;
    if (Math.abs(across) > 1.5 * Math.abs(down)) (across > 0 ? acts.right : acts.left)?.();
    else if (Math.abs(down) > 1.5 * Math.abs(across)) (down > 0 ? acts.down : acts.up)?.();
  });
  element.addEventListener("pointercancel", () => { from = null; });
}
