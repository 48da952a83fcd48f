// Favourites: images kept in mind with the taste, apart from any grade; the rater learns nothing from them.

import { call } from "../data/connect.js";
import { taste } from "../prefs.js";

const AT_ONCE = 1000;
const old = () => `konomi.favourites.${taste()}`;  // where this browser kept them before the taste did

let of = "";
let kept = new Set();
let asking = null;

// Those known now; `load` asks for them.
export const favourites = () => (of === taste() ? [...kept] : []);

export const isFavourite = (digest) => of === taste() && kept.has(digest);

// Asks for the favourites of the taste, once a view; a browser that kept some itself brings them over first.
export function load() {
  asking ??= fetchAll().finally(() => { asking = null; });
  return asking;
}

async function fetchAll() {
  const name = taste();
  await bringOver(name);
  const found = [];
  let pageToken = "";
  do {
    const page = await call("RaterService/ListFavourites", { taste: name, pageSize: AT_ONCE, pageToken });
    found.push(...(page.favourites ?? []).map((one) => one.imageDigest));
    pageToken = page.nextPageToken ?? "";
  } while (pageToken);
  [of, kept] = [name, new Set(found.reverse())];
}

// Once: what was brought is forgotten here, what could not be brought stays for the next time.
async function bringOver(name) {
  const digests = inBrowser();
  if (!digests.length) return;
  try {
    for (let start = 0; start < digests.length; start += AT_ONCE) await set(name, digests.slice(start, start + AT_ONCE), true);
    localStorage.removeItem(old());
  } catch { /* the next view tries again */ }
}

function inBrowser() {
  try {
    const found = JSON.parse(localStorage.getItem(old()) ?? "[]");
    return Array.isArray(found) ? found.filter((digest) => /^[0-9a-f]{64}$/.test(digest)) : [];
  } catch {
    return [];  // private mode, or somebody else's bytes
  }
}

const set = (name, digests, favourite) => call("RaterService/SetFavourites", { taste: name, digests, favourite, requestId: crypto.randomUUID() });

// Adds images, or takes them away where all are favourites already; returns whether they are now, once that is durable.
export async function turn(digests) {
  if (of !== taste()) await load();
  const add = digests.some((digest) => !kept.has(digest));
  for (let start = 0; start < digests.length; start += AT_ONCE) await set(of, digests.slice(start, start + AT_ONCE), add);
  for (const digest of digests) {
    if (add) kept.add(digest);
    else kept.delete(digest);
  }
  return add;
}
