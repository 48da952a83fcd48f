// Grades, comparisons and their undoing; every promise here resolves only once the act is durable.

import { call } from "./connect.js";
import * as outbox from "./outbox.js";
import { taste } from "../prefs.js";

export const GRADES = ["", "GRADE_N", "GRADE_R", "GRADE_SR", "GRADE_SSR", "GRADE_UR"];
export const LETTERS = ["–", "N", "R", "SR", "SSR", "UR"];

const TOGETHER = 200;

export const numberOf = (grade) => Math.max(0, GRADES.indexOf(grade ?? ""));

// Returns what undoing needs: the label's name, or its place in the outbox.
export async function record(digest, number, reason) {
  const label = { imageDigest: digest, grade: number ? GRADES[number] : "GRADE_UNSPECIFIED" };
  if (reason) label.reason = reason;
  const body = { taste: taste(), labels: [label], requestId: crypto.randomUUID() };
  const { reply, kept } = await outbox.send("RaterService/RecordLabels", body);
  return { name: reply?.labels?.[0]?.name ?? "", kept };
}

// Gives many images one grade, some at a time; returns what undoing all of it needs.
export async function recordAll(digests, number) {
  const receipts = [];
  for (let start = 0; start < digests.length; start += TOGETHER) {
    const part = digests.slice(start, start + TOGETHER);
    const labels = part.map((imageDigest) => ({ imageDigest, grade: number ? GRADES[number] : "GRADE_UNSPECIFIED" }));
    const { reply, kept } = await outbox.send("RaterService/RecordLabels", { taste: taste(), labels, requestId: crypto.randomUUID() });
    receipts.push({ names: (reply?.labels ?? []).map((label) => label.name), kept, count: part.length });
  }
  return receipts;
}

// Undoes what `recordAll` did, the last first.
export async function undoAll(receipts) {
  for (const { names, kept, count } of [...receipts].reverse()) {
    if (kept && await outbox.takeBack(kept)) continue;
    for (const name of kept ? Array(count).fill("") : [...names].reverse()) await takeBack("RaterService/UndoLabel", { name });
  }
  return {};
}

// Undoes one label, or the last one in force where none is named; returns the label entry, null where nothing is left.
export const undo = (receipt) => takeBack("RaterService/UndoLabel", receipt);

// Undoes one comparison, or the last one in force where none is named; returns its entry, null where nothing is left.
export const undoComparison = (receipt) => takeBack("RaterService/UndoComparison", receipt);

async function takeBack(method, receipt) {
  if (receipt?.kept && await outbox.takeBack(receipt.kept)) return {};
  const body = { taste: taste(), name: receipt?.name ?? "", requestId: crypto.randomUUID() };
  try {
    return await call(method, body);
  } catch (error) {
    if (error.code === "failed_precondition") return null;
    throw error;
  }
}

// Returns what undoing needs, as `record` does.
export async function compare(winner, loser, tie = false) {
  const comparison = { winnerDigest: winner, loserDigest: loser, tie };
  const body = { taste: taste(), comparison, requestId: crypto.randomUUID() };
  const { reply, kept } = await outbox.send("RaterService/RecordComparison", body);
  return { name: reply?.name ?? "", kept };
}
