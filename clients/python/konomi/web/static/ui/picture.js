// Pictures by digest: fetched and decoded ahead, so that showing one is only a swap.

import { h } from "./dom.js";
import { t } from "../i18n/i18n.js";

const ahead = new Map();
const KEPT = 32;

export const full = (digest) => `/image/${digest}`;
export const thumb = (digest) => `/thumb/${digest}`;
export const small = (digest) => `/small/${digest}`;

export const fileName = (image) => (image.path ?? "").split(/[/!]/).pop();
export const named = (image) => (image.prompt || image.path ? t("image_of", { prompt: image.prompt || fileName(image) }) : t("image"));

// Returns an <img> that has begun to load; asking twice gives the same one.
export function prepared(image) {
  let element = ahead.get(image.digest);
  if (!element) {
    element = h("img", { src: full(image.digest), alt: named(image), draggable: "false", decoding: "async" });
    element.whenReady = element.decode().catch(() => ahead.delete(image.digest));  // asked for again next time
    ahead.set(image.digest, element);
    if (ahead.size > KEPT) {
      for (const [digest, old] of ahead) {
        if (ahead.size <= KEPT) break;
        if (!old.isConnected) ahead.delete(digest);
      }
    }
  }
  return element;
}

// Resolves after the next frame was handed to the screen.
export const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
