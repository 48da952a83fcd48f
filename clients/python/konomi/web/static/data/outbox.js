// What was answered while nothing could be reached: kept on this device in order, sent again with the same request ids.

import { CallError, call } from "./connect.js";
import * as store from "./store.js";

export const LIMIT = 200;
const listeners = new Set();
let waiting = 0;
let refused = 0;
let sending = null;

export function onChange(listener) {
  listeners.add(listener);
}

export const size = () => waiting;
export const refusals = () => refused;

async function count() {
  const entries = await store.all();
  refused = entries.filter((entry) => entry.refused).length;
  waiting = entries.length - refused;
  for (const listener of listeners) listener(waiting, refused);
  return entries;
}

export const ready = count().catch(() => []);

// Sends now, in order with what waits; where nothing answers it is kept. Resolves once it is durable somewhere.
export async function send(method, body) {
  await ready;
  if (!waiting) {
    try {
      return { reply: await call(method, body, { timeout: 5000 }), kept: null };
    } catch (error) {
      if (!error.isAway) throw error;
    }
  }
  if (waiting >= LIMIT) throw new CallError("resource_exhausted", "outbox full");
  const kept = await store.add({ method, body });
  await count();
  flush();
  return { reply: null, kept };
}

// Takes back what was not sent yet; false where it is on its way or gone.
export async function takeBack(order) {
  if (sending !== null) await sending;
  const entries = await store.all();
  if (!entries.some((entry) => entry.order === order && !entry.refused)) return false;
  await store.remove(order);
  await count();
  return true;
}

export function flush() {
  sending ??= sendAll().finally(() => { sending = null; });
  return sending;
}

async function sendAll() {
  for (const entry of await store.all()) {
    if (entry.refused) continue;
    try {
      await call(entry.method, entry.body, { timeout: 8000 });
    } catch (error) {
      if (error.isAway) break;
      await store.put({ ...entry, refused: error.message });
      continue;
    }
    await store.remove(entry.order);
  }
  await count();
}

setInterval(() => { if (waiting) flush(); }, 3000);
addEventListener("online", () => { if (waiting) flush(); });
