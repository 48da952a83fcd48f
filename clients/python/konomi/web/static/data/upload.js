// Pictures on their way in: what was dropped, pasted or chosen is sent file by file, then the server reads it.

import { CallError, call, send } from "./connect.js";
import { t, whole } from "../i18n/i18n.js";
import { taste } from "../prefs.js";

const AT_ONCE = 3;
const TRIES = 3;
const LOOK = 400;
const SOON = 700;
export const ENDED = ["done", "failed", "stopped"];

const listeners = new Set();
const waiting = [];
let job = null;
let ending = null;

// The upload under way, or the last one: { phase, files, sent, bytes, total, refused, status, problem }.
export const current = () => job;

// Calls a listener at every change; returns what takes it away again.
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(change) {
  job = { ...job, ...change };
  for (const listener of listeners) listener(job);
}

// Takes files in: [{ name, file }]; names hold the folders they lie in. `scraped` says that others made them.
export function bring(files, { scraped = false } = {}) {
  const visible = files.filter(({ name }) => !name.split("/").some((part) => part.startsWith(".")));
  if (!visible.length) return;
  waiting.push({ files: visible, scraped });
  if (!job || ENDED.includes(job.phase)) work();
}

export function stop() {
  waiting.length = 0;
  ending?.abort();
}

async function work() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const total = next.files.reduce((sum, { file }) => sum + file.size, 0);
    ending = new AbortController();
    job = {};
    tell({ phase: "sending", files: next.files.length, sent: 0, bytes: 0, total, refused: [], status: null, problem: "" });
    try {
      await carry(next, ending.signal);
    } catch (error) {
      tell(error.code === "canceled" ? { phase: "stopped" } : { phase: "failed", problem: error.message });
    }
  }
}

async function carry({ files, scraped }, signal) {
  const { upload, limits } = await call("UploadBegin", { taste: taste(), scraped });
  const leave = () => call("UploadStop", { upload }, { keepalive: true }).catch(() => {});  // a closed page sends no more
  addEventListener("pagehide", leave);
  try {
    await sendAll(upload, files, limits, signal).finally(() => removeEventListener("pagehide", leave));
    tell({ phase: "reading", status: await call("UploadFinish", { upload }) });
    while (!ENDED.includes(job.status.state)) {
      await new Promise((resolve) => setTimeout(resolve, LOOK));
      if (signal.aborted) await call("UploadStop", { upload });
      tell({ status: await patient(() => call("UploadStatus", { upload })) });
    }
    tell({ phase: job.status.state, problem: job.status.problem });
  } catch (error) {
    call("UploadStop", { upload }).catch(() => {});
    throw error;
  }
}

// Why a file is not even sent: it is too large for what it is, or went away since it was chosen.
async function obstacle(name, file, limits) {
  const most = /\.(?:zip|tar|parquet)$/i.test(name) ? limits.file_bytes : limits.picture_bytes;
  if (file.size > most) return t("add_too_large", { most: whole(Math.floor(most / 2 ** 20)) });
  try {
    await file.slice(0, 1).arrayBuffer();
    return "";
  } catch {
    return t("add_unreadable");
  }
}

async function sendAll(upload, files, limits, signal) {
  const left = [...files];
  const refuse = (name, message) => tell({ refused: [...job.refused, { name, message }] });
  const one = async ({ name, file }) => {
    let gone = 0;
    const wrong = await obstacle(name, file, limits);
    if (wrong) {
      refuse(name, wrong);
      tell({ sent: job.sent + 1, bytes: job.bytes + file.size });
      return;
    }
    let tried = 0;
    try {
      const headers = { "x-konomi-name": encodeURIComponent(name.toWellFormed?.() ?? name) };
      const moved = (bytes) => { tell({ bytes: job.bytes + Math.min(bytes, file.size) - gone }); gone = Math.min(bytes, file.size); };
      await patient(() => { tried += 1; return send(`/konomi.page/UploadFile/${upload}`, file, headers, { moved, signal }); });
    } catch (error) {
      const taken = error.code === "already_exists" && tried > 1;  // it came before, and the answer was lost
      if (error.isAway || error.code === "canceled" || error.code === "not_found" || error.code === "failed_precondition") throw error;
      if (!taken) refuse(name, error.message);
    }
    tell({ sent: job.sent + 1, bytes: job.bytes + file.size - gone });
  };
  const worker = async () => {
    while (left.length && !signal.aborted) await one(left.shift());
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (signal.aborted) throw new CallError("canceled", "");
}

// A server that is away for a moment is asked again.
async function patient(work) {
  for (let tried = 1; ; tried += 1) {
    try {
      return await work();
    } catch (error) {
      if (!error.isAway || error.code === "unauthenticated" || tried === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, tried * SOON));
    }
  }
}

// The files of a drop or a paste, those within folders too. It begins before it returns: a transfer is empty afterwards.
export function filesOf(transfer) {
  const items = [...(transfer?.items ?? [])].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  return Promise.all(entries.filter(Boolean).map(below)).then((lists) => lists.flat());
}

async function below(entry) {
  if (entry instanceof File) return [{ name: entry.name, file: entry }];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ name: entry.fullPath.replace(/^\//, ""), file }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const inner of some) found.push(...await below(inner));
  }
}

// The files of an <input type=file>.
export const filesIn = (input) => [...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
