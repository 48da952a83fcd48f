// Favourites: images kept in mind on this device, apart from any grade; the rater learns nothing from them.

import { taste } from "../prefs.js";

const MOST = 1000;  // one listing asks for no more
const place = () => `konomi.favourites.${taste()}`;

export function favourites() {
  try {
    const kept = JSON.parse(localStorage.getItem(place()) ?? "[]");
    return Array.isArray(kept) ? kept.filter((digest) => /^[0-9a-f]{64}$/.test(digest)) : [];
  } catch {
    return [];  // private mode, or somebody else's bytes
  }
}

export const isFavourite = (digest) => favourites().includes(digest);

// Adds images, or takes them away where all are favourites already; returns whether they are favourites now.
export function turn(digests) {
  const kept = favourites();
  const add = digests.some((digest) => !kept.includes(digest));
  const next = add ? [...kept.filter((digest) => !digests.includes(digest)), ...digests] : kept.filter((digest) => !digests.includes(digest));
  try {
    localStorage.setItem(place(), JSON.stringify(next.slice(-MOST)));
  } catch {
    return !add;
  }
  return add;
}
