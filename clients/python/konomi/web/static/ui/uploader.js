// Where pictures are brought in: a place to drop them, two buttons, how far they are, and what became of them.

import { bring, current, ENDED, filesIn, onChange, stop } from "../data/upload.js";
import { h, replace } from "./dom.js";
import { brief, many, t, whole } from "../i18n/i18n.js";

const NAMED = 50;

// Returns the element and what takes it out of use; `done` is called when an upload has ended.
export function uploader(done = () => {}) {
  const scraped = h("input", { type: "checkbox", id: "scraped" });
  const take = (input) => { bring(filesIn(input), { scraped: scraped.checked }); input.value = ""; };
  const files = h("input", { type: "file", multiple: true, hidden: true, "data-choose": "files", change: (event) => take(event.target) });
  const folder = h("input", { type: "file", webkitdirectory: true, hidden: true, "data-choose": "folder", change: (event) => take(event.target) });
  const place = h("div", { class: "way", "aria-live": "polite" });
  const element = h("section", { class: "drop", "aria-label": t("add") },
    h("p", { class: "big" }, t("add_drop")), h("p", { class: "small" }, t("add_kinds")),
    h("div", { class: "inline" },
      h("button", { class: "primary", click: () => files.click() }, t("add_files")),
      h("button", { click: () => folder.click() }, t("add_folder")), files, folder),
    h("label", { class: "check", for: "scraped" }, scraped, h("span", {}, t("add_scraped"))),
    place);
  let shown = "";
  let bar = null;
  const paint = (job) => {
    if (!job) return;
    const kind = ENDED.includes(job.phase) ? "ended" : job.phase;
    if (kind !== shown || kind === "ended") {
      bar = kind === "ended" ? null : moving();
      replace(place, bar ? bar.element : outcome(job));
      shown = kind;
      if (kind === "ended") done(job);
    }
    bar?.update(job);
  };
  const leave = onChange(paint);
  if (current()) paint(current());
  return { element, leave };
}

function moving() {
  const words = h("p", {});
  const bar = h("progress", { max: 1, "aria-label": t("add_progress") });
  const element = h("div", {}, words, bar, h("button", { class: "plain", click: stop }, t("add_stop")));
  const update = (job) => {
    const reading = job.phase === "reading";
    const { read = 0, total = 0 } = job.status ?? {};
    const share = reading ? (total ? read / total : null) : job.bytes / Math.max(1, job.total);
    if (share === null) bar.removeAttribute("value");
    else bar.value = Math.min(1, share);
    const line = reading ? many("add_reading", read) : brief("add_sending", { n: whole(job.sent), of: whole(job.files) });
    if (words.textContent !== line) words.textContent = line;
  };
  return { element, update };
}

function outcome(job) {
  const { added = 0, already_known: known = 0, rated = 0, failed = 0, unread = 0, refused = [], not_understood: odd = [], passed_over: over = {} } = job.status ?? {};
  const named = [...job.refused, ...refused];
  const count = job.refused.length + failed;
  const kinds = Object.entries(over).map(([kind, n]) => `${whole(n)} ${kind}`).join(", ");
  const list = (word, n, entries) => (n ? h("details", {}, h("summary", {}, many(word, n)),
    h("ul", { class: "named" }, entries.slice(0, NAMED).map(({ name, message }) => h("li", {}, h("bdi", {}, name), `: ${message}`)),
      n > NAMED ? h("li", {}, t("add_beyond", { n: whole(n - Math.min(NAMED, entries.length)) })) : null)) : null);
  return [
    job.phase === "failed" ? h("p", { class: "bad" }, t("problem", { why: job.problem })) : null,
    job.phase === "stopped" ? h("p", {}, t("add_stopped")) : null,
    job.status ? h("p", { class: "sum" }, [many("add_added", added), known ? many("add_known", known) : null, rated ? many("add_rated", rated) : null].filter(Boolean).join(" · ")) : null,
    job.status && !added && !known && !count ? h("p", {}, t("add_nothing")) : null,
    list("add_refused", count, named), list("add_unread", unread, odd),
    kinds ? h("p", { class: "small" }, t("add_passed_over", { kinds })) : null,
  ];
}
