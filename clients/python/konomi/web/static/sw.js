// The service worker: keeps the page and the images that are due next, so that grading goes on without a network.
const SHELL = "konomi-shell-%VERSION%";
const PICTURES = "konomi-pictures-1";
const FILES = [%FILES%];
const KEPT_PICTURES = 1500;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith("konomi-shell-") && name !== SHELL) await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  if (/^\/(?:image|thumb|small)\/[0-9a-f]{64}$/.test(url.pathname)) {
    event.respondWith(picture(event.request));
  } else if (url.pathname === "/" || FILES.includes(url.pathname)) {
    event.respondWith(shell(event.request, url.pathname));
  }
});

async function shell(request, path) {
  try {
    const fresh = await fetch(request);
    if (fresh.ok) return fresh;
  } catch { /* no server: the kept copy below */ }
  const kept = await (await caches.open(SHELL)).match(path);
  return kept ?? Response.error();
}

async function picture(request) {
  const wanted = request.headers.get("x-keep") === "1";
  const cache = await caches.open(PICTURES);
  const kept = await cache.match(request.url);
  if (kept) return kept;
  const fresh = await fetch(request);
  if (fresh.ok && wanted) {
    await cache.put(request.url, fresh.clone());
    await trim(cache);
  }
  return fresh;
}

async function trim(cache) {
  const keys = await cache.keys();
  for (const key of keys.slice(0, Math.max(0, keys.length - KEPT_PICTURES))) await cache.delete(key);
}
