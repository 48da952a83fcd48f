// The frame around the views: who may enter, which view is shown, language, theme, connection.

import { call, onReach } from "./data/connect.js";
import { h, replace, toast } from "./ui/dom.js";
import { brief, languages, load, t } from "./i18n/i18n.js";
import { listen } from "./ui/keys.js";
import * as outbox from "./data/outbox.js";
import { applyTheme, get, set, taste } from "./prefs.js";
import { bring, filesOf } from "./data/upload.js";

const VIEWS = ["rate", "pair", "pick", "library", "tail", "map", "taste", "night", "lineage"];
const BESIDE = ["add", "guide"];  // views without a place among the others
const FILES = { tail: "tail/long_tail", map: "tail/map" };
const THEMES = ["system", "light", "dark"];

let shown = null;
let entered = false;
let tastes = [];
let turn = 0;

async function enter() {
  const words = new URLSearchParams(location.hash.slice(1));
  const ticket = words.get("ticket");
  if (words.get("taste")) set("taste", words.get("taste"));
  if (ticket) history.replaceState(null, "", `#${words.get("view") ?? "rate"}`);
  try {
    const { known } = await call("/session", ticket ? { ticket } : {});
    return known;
  } catch (error) {
    if (error.code === "unreachable" || error.code === "unavailable") return true;
    if (ticket) return (await call("/session", {})).known;
    throw error;
  }
}

async function chooseTaste() {
  try {
    tastes = (await call("RaterService/ListTastes", { pageSize: 1000 })).tastes ?? [];
  } catch {
    return;
  }
  const names = tastes.map((one) => one.name.replace("tastes/", ""));
  if (!names.length) await call("RaterService/CreateTaste", { tasteId: "default", taste: {}, requestId: crypto.randomUUID() }).catch(() => {});
  if (!names.includes(get("taste"))) set("taste", names.includes("default") || !names.length ? "default" : names[0]);
  begun();
}

// Whoever has no pictures yet is shown the way to a first night, until they say that they need it no more.
function begun() {
  const mine = tastes.find((one) => one.name === taste());
  if (!Number(mine?.imageCount ?? 0) && !get("guide") && viewName() === "rate") history.replaceState(null, "", "#guide");
}

function choice(label, name, options, change, place = "") {
  const id = `choose-${name}${place}`;
  return h("div", { class: `choice ${name}` },
    h("label", { for: id, class: place ? "small" : "unseen" }, label),
    h("select", { id, change: (event) => { set(name, event.target.value); change(); } },
      options.map(([value, words]) => h("option", { value, selected: get(name) === value }, words))));
}

const themes = (place = "") => choice(t("theme"), "theme", THEMES.map((one) => [one, brief(`theme_${one}`)]), applyTheme, place);

function header() {
  const current = viewName();
  // Each place has the name its link goes to: where it is scrolled out of sight, a link to nothing is a way past nothing.
  const links = VIEWS.map((view) => h("li", { id: view }, h("a", { href: `#${view}`, "aria-current": view === current ? "page" : null }, brief(view))));
  const names = tastes.map((one) => one.name.replace("tastes/", ""));
  replace(document.getElementById("top"),
    h("a", { class: "mark", href: "#rate", "aria-label": "konomi" }, h("span", { "aria-hidden": "true", lang: "ja" }, "好み"), h("b", {}, "konomi")),
    h("nav", { "aria-label": brief("views") }, h("ul", {}, links)),
    h("div", { class: "tools" },
      h("span", { id: "state", role: "status" }),
      h("a", { class: "button plain", href: "#add", "aria-label": brief("add"), title: brief("add"), "aria-current": current === "add" ? "page" : null }, "＋"),
      names.length > 1 && choice(t("taste_choice"), "taste", names.map((name) => [name, name]), start),
      choice(t("language"), "language", languages(), start),
      themes(),
      h("button", { class: "plain", id: "help", title: t("keys"), "aria-label": t("keys"), click: help }, "?")));
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });  // narrow screens show some of the views
  showState();
}

let reach = "here";

function showState() {
  const place = document.getElementById("state");
  if (!place) return;
  const words = [];
  if (reach === "away") words.push(brief("away"));
  if (outbox.size()) words.push(brief("waiting", { n: outbox.size() }));
  if (outbox.refusals()) words.push(brief("refused", { n: outbox.refusals() }));
  place.textContent = words.join(" · ");
  place.className = reach === "away" ? "away" : "";
}

onReach((state) => {
  if (state === reach) return;
  reach = state;
  if (state === "locked") locked();
  if (state === "here" && outbox.size()) outbox.flush();
  showState();
});
outbox.onChange(showState);

function help() {
  const rows = [["1 2 3 4 5", "key_grade"], ["0", "key_clear"], ["← → ↑ ↓", "key_arrows"], ["Space", "key_space"], ["z", "key_undo"], ["s", "key_sweep"], ["Enter", "key_enter"], ["m", "key_mark"], ["Shift ← →", "key_mark_more"], ["f", "key_favourite"], ["x", "key_zoom"], ["Shift ← → ↑ ↓", "key_pan"], ["?", "key_help"]];
  const dialog = h("dialog", { class: "keys", "aria-labelledby": "keys-title", close: () => dialog.remove() },
    h("h2", { id: "keys-title" }, t("keys")),
    h("dl", {}, rows.map(([key, word]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(word))])),
    themes("-here"),
    h("div", { class: "closing" }, h("button", { class: "primary", autofocus: true, click: () => dialog.close() }, t("close")),
      h("a", { class: "button", href: "#guide", click: () => dialog.close() }, t("guide_show"))));
  document.body.append(dialog);
  dialog.showModal();
}

// Pictures may be dropped and pasted anywhere; where the view has no place for them, the one that has is opened.
async function receive(event, transfer) {
  const kinds = [...(transfer?.types ?? [])];
  if (!kinds.includes("Files")) return;
  if (kinds.includes("text/plain") && event.target?.closest?.("input, textarea")) return;  // it is words that are pasted
  event.preventDefault();  // else the browser leaves the page to show the file
  if (!entered) return;
  const files = filesOf(transfer);
  document.body.classList.remove("dragging");
  if (!BESIDE.includes(viewName())) location.hash = "add";
  bring(await files, { scraped: document.getElementById("scraped")?.checked ?? false });
}

addEventListener("drop", (event) => receive(event, event.dataTransfer));
addEventListener("paste", (event) => receive(event, event.clipboardData));
addEventListener("dragover", (event) => {
  if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
  event.preventDefault();
  document.body.classList.toggle("dragging", entered);
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });

function locked() {
  entered = false;
  shown?.leave?.();
  shown = null;
  listen(null);
  replace(document.getElementById("main"), h("section", { class: "quiet" },
    h("h1", {}, t("locked_title")), h("p", {}, t("locked_text")), h("pre", {}, h("code", {}, "konomi label"))));
}

const viewName = () => {
  const name = location.hash.slice(1).split("/")[0];
  return VIEWS.includes(name) || BESIDE.includes(name) ? name : "rate";
};

async function show() {
  const mine = ++turn;
  shown?.leave?.();
  shown = null;
  listen(null);
  header();
  const name = viewName();
  document.body.dataset.view = name;
  document.title = `${brief(name)} · konomi`;
  const main = document.getElementById("main");
  replace(main, h("h1", { class: "unseen" }, t(name)), h("p", { class: "quiet", "aria-busy": "true" }, t("loading")));
  try {
    const view = await import(`./views/${FILES[name] ?? name}.js`);
    if (mine !== turn) return;
    const made = await view.show(main, () => mine === turn);
    if (mine !== turn) { made?.leave?.(); return; }
    shown = made;
    listen({ key: (key, event) => (key === "?" ? (help(), true) : made?.key?.(key, event) ?? false) });
  } catch (error) {
    if (mine !== turn || error.code === "unauthenticated") return;
    replace(main, h("section", { class: "quiet" }, h("h1", {}, t(name)), h("p", {}, t("problem", { why: error.message })),
      h("button", { click: show }, t("again"))));
  }
}

async function start() {
  applyTheme();
  await load();
  document.getElementById("skip-link").textContent = brief("skip_link");
  if (!await enter()) {
    header();
    locked();
    return;
  }
  entered = true;
  await chooseTaste();
  await show();
}

function install() {
  if (!("serviceWorker" in navigator)) return;
  const scripts = window.trustedTypes?.createPolicy("konomi", {
    createScriptURL: (address) => {
      if (address !== "/sw.js") throw new TypeError("only the page's own worker");
      return address;
    },
  });
  navigator.serviceWorker.register(scripts ? scripts.createScriptURL("/sw.js") : "/sw.js").catch(() => {});
}

addEventListener("hashchange", () => {
  if (new URLSearchParams(location.hash.slice(1)).has("ticket")) start();
  else show();
});
addEventListener("unhandledrejection", (event) => toast(t("problem", { why: event.reason?.message ?? "" }), "bad"));
start().catch((error) => toast(t("problem", { why: error.message }), "bad"));
install();
