// Grades that are sent together: one request at a time, and what comes meanwhile goes with the next one.

import { call } from "./connect.js";
import { GRADES } from "./labels.js";
import * as outbox from "./outbox.js";
import { taste } from "../prefs.js";

const TOGETHER = 100;

// Entries are { digest, number }; each gets `saved` once it is durable, and `receipt`, by which it is undone.
export class Batches {
  constructor(settled) {
    this.settled = settled;
    this.waiting = [];   // not sent yet
    this.going = [];     // in the request that is under way
    this.working = null;
  }

  get open() {
    return this.waiting.length + this.going.length;
  }

  add(entry) {
    this.waiting.push(entry);
    this.working ??= this.work().finally(() => { this.working = null; });
  }

  async work() {
    while (this.waiting.length) {
      this.going = this.waiting.splice(0, TOGETHER);
      const part = this.going;
      try {
        await send(part);
      } catch (error) {
        this.going = [];
        const lost = [...part, ...this.waiting.splice(0)];
        this.settled(error, lost);  // none of these was acknowledged
        return;
      }
      this.going = [];
      this.settled(null, part);
    }
  }

  // Takes one back: before it was sent, from the outbox, or by undoing its label.
  async takeBack(entry) {
    const place = this.waiting.indexOf(entry);
    if (place >= 0) {
      this.waiting.splice(place, 1);
      return;
    }
    if (this.going.includes(entry)) await this.working;
    if (!entry.receipt) return;  // it was refused
    const { name, kept, together } = entry.receipt;
    if (kept && await outbox.takeBack(kept)) {
      const rest = together.filter((one) => one !== entry);
      if (rest.length) await send(rest);
    } else if (name) {
      await call("RaterService/UndoLabel", { taste: taste(), name, requestId: crypto.randomUUID() });
    } else {
      await outbox.send("RaterService/RecordLabels", request([{ digest: entry.digest, number: 0 }]));
    }
  }
}

const request = (entries) => ({
  taste: taste(),
  labels: entries.map(({ digest, number }) => ({ imageDigest: digest, grade: GRADES[number] || "GRADE_UNSPECIFIED" })),
  requestId: crypto.randomUUID(),
});

async function send(entries) {
  const { reply, kept } = await outbox.send("RaterService/RecordLabels", request(entries));
  entries.forEach((entry, at) => Object.assign(entry, { saved: true, receipt: { name: reply?.labels?.[at]?.name ?? "", kept, together: entries } }));
}
