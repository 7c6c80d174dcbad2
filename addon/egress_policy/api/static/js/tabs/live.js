// The Live tab: flows as they end, which took which egress, and why. A flow opens beside the list.
import { noteQuery, queryInAddress } from "../address.js";
import { LIVE, get } from "../api.js";
import { badge, button, el, field, goTo, note, nothing, refill, select, table } from "../dom.js";
import { follow } from "../events.js";
import { KINDS, answer, exitOf, hop, place } from "../flows.js";
import { familyText } from "../family.js";
import { capital, t, timeOf, word } from "../i18n.js";
import { bytes, milliseconds } from "../units.js";
import { Drawer } from "./flow.js";

const KEPT = 500;
const DRAWN = 200;
const SPOKEN = 120;
const HIDE = "hide-queries";
let source;
let view;

export async function enter(main) {
  view = {
    events: [], lost: 0, paused: null, text: [], outcome: "", only: new Map(), drawing: 0, rows: new WeakMap(),
    hides: localStorage.getItem(HIDE) === "yes",
  };
  const { exit } = queryInAddress(); // no proxy can be called direct
  if (exit) view.only.set("exit", exit === "direct" ? t("use_direct") : exit);
  view.drawer = new Drawer({ only: showOnly, closed: draw });
  const empty = () => {
    view.events = [];
    if (view.paused) view.paused = [];
    draw();
  };
  const pause = button(t("pause"), () => {
    view.paused = view.paused ? null : [...view.events];
    pause.textContent = t(view.paused ? "resume" : "pause");
    pause.setAttribute("aria-pressed", Boolean(view.paused));
    draw();
  }, { "aria-pressed": "false" });
  const outcomes = [["", t("any")], ["proxy", capital(t("use_proxy"))], ["direct", capital(t("use_direct"))], ["refused", t("refused")]];
  const column = (name, key) => el("th", { scope: "col", className: name }, t(key));
  view.nothing = el("div");
  view.table = table(t("tab_live"), [
    column("when", "time"), column("method", "method"), column("target", "request"), column("status", "result"),
    column("way", "egress"), column("took", "flowDuration"), column("size", "flowBytes"),
  ], [], view.nothing);
  view.table.addEventListener("keydown", walk);
  view.count = el("p", { className: "note" });
  view.state = el("span", { className: "badge", role: "status" });
  view.chips = el("div", { className: "chips", role: "group", "aria-label": t("onlyThese") });
  const search = el("input", { type: "search", oninput: ({ target }) => find(target.value) });
  const outcome = select(outcomes, "", { onchange: ({ target }) => {
    view.outcome = target.value;
    draw();
  } });
  const hide = el("input", { type: "checkbox", role: "switch", checked: view.hides, onchange: ({ target }) => hideQueries(target.checked) });
  refill(main,
    el("div", { className: "tools" },
      field(t("search"), search), field(t("result"), outcome),
      pause, button(t("emptyList"), empty), el("label", { className: "switch" }, hide, t("hideQueries")), view.state),
    view.chips,
    el("div", { id: "flows", className: "workbench" }, el("div", {}, view.table, view.count), view.drawer.place));
  listen();
  draw();
  update(await get("/status"));
}

// Where mitmproxy listens as an HTTP proxy; at any address is at this one too.
export function update({ proxy_listen: [place = ""] }) {
  const proxy = place.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, location.hostname);
  if (!view || view.proxy === proxy) return;
  view.proxy = proxy;
  draw();
}

export function leave() {
  source?.close();
  source = null;
}

function listen() {
  const here = view;
  leave();
  const state = (key, kind) => {
    here.state.textContent = t(key);
    here.state.className = `badge ${kind}`;
  };
  source = follow(here.hides ? `${LIVE}?queries=0` : LIVE, {
    opened: () => state("connected", "good"),
    cut: () => state("reconnecting", "warn"),
    flow(event) {
      here.events.unshift(event);
      here.events.length = Math.min(here.events.length, KEPT);
      soon();
    },
    lost: ({ count }) => { here.lost += count; },
  });
}

// Hidden queries do not come over the wire either: the list is asked for anew.
function hideQueries(hides) {
  localStorage.setItem(HIDE, hides ? "yes" : "no");
  view.hides = hides;
  if (hides) {
    const bare = (one) => ({ ...one, path: one.path.split("?")[0] });
    view.paused &&= view.paused.map(bare);
    view.drawer.close();
  }
  view.events = [];
  listen();
  draw();
}

function find(text) {
  view.text = text.toLowerCase().split(/\s+/).filter(Boolean);
  draw();
}

function showOnly(kind, value) {
  view.only.set(kind, value);
  draw();
}

// Once a frame, however many flows end meanwhile. What is paused stays as it is, to be marked and copied.
function soon() {
  view.drawing ||= requestAnimationFrame(() => {
    view.drawing = 0;
    if (view.paused) count();
    else draw();
  });
}

function isWanted(one) {
  const outcome = one.code ? "refused" : one.use;
  if (view.outcome && view.outcome !== outcome) return false;
  for (const [kind, value] of view.only) if (KINDS[kind][1](one) !== value) return false;
  if (!view.text.length) return true;
  const said = [one.method, place(one), one.path, one.status, exitOf(one), one.pool, one.rule, one.client,
    hop(one), one.exit, one.code, one.reason, one.cut].join(" ").toLowerCase();
  return view.text.every((part) => said.includes(part));
}

function nothingYet() {
  const hint = view.proxy
    ? [t("liveHint"), " ", el("code", {}, `curl -x ${view.proxy} http://example.com/`)] : t("liveNoProxy");
  return nothing(t("liveNothing"), hint, goTo("rules", t("explain")));
}

function draw() {
  const found = (view.paused ?? view.events).filter(isWanted).slice(0, DRAWN);
  const isFiltered = view.text.length || view.only.size || view.outcome;
  refill(view.nothing, isFiltered ? t("nothingFound") : nothingYet());
  view.table.fill(found.map(rowOf));
  mark(found);
  chips();
  count();
}

function count() {
  const events = view.paused ?? view.events;
  const waiting = view.paused ? view.events.length - events.length : 0;
  const parts = [t("liveCount", { count: events.length })];
  if (view.lost) parts.push(t("liveLost", { count: view.lost }));
  if (waiting > 0) parts.push(t("liveWaiting", { count: waiting }));
  view.count.textContent = parts.join(" · ");
}

function chips() {
  refill(view.chips, [...view.only].map(([kind, value]) => {
    const text = `${t(KINDS[kind][0])}: ${value}`;
    return button(`${text} ×`, () => {
      view.only.delete(kind);
      if (kind === "exit") noteQuery("live", [], { further: true });
      draw();
    }, { className: "small", "aria-label": `${text} × ${t("showAllAgain")}` });
  }));
  view.chips.hidden = !view.only.size;
}

// One row alone is a stop of the Tab key; arrows go on from there.
function mark(found) {
  const { chosen } = view.drawer;
  const stop = [document.activeElement?.flow, chosen].find((one) => found.includes(one)) ?? found[0];
  for (const one of found) {
    const row = view.rows.get(one);
    row.opens.tabIndex = one === stop ? 0 : -1;
    row.opens.setAttribute("aria-expanded", one === chosen);
    row.classList.toggle("chosen", one === chosen);
  }
}

function walk(event) {
  if (event.key === "Escape" && view.drawer.chosen) return view.drawer.close();
  if (!event.target.flow) return;
  const rows = [...view.table.querySelectorAll("tbody tr")];
  const at = rows.indexOf(event.target.closest("tr"));
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const row = rows[Math.max(0, Math.min(next, rows.length - 1))];
  row.opens.focus();
  if (view.drawer.chosen) open(row.opens.flow);
  else draw();
}

// The keys go on from its row, also where the mouse opened it.
function open(one) {
  const opens = () => view.rows.get(one)?.opens;
  opens()?.focus({ preventScroll: true });
  view.drawer.open(one, opens);
  draw();
}

// A row is made once: it stays what it is while others come.
function rowOf(one) {
  if (!view.rows.has(one)) view.rows.set(one, row(one));
  return view.rows.get(one);
}

function row(one) {
  const time = timeOf(one.at);
  const target = `${place(one)}${one.path}`;
  const line = (...text) => el("div", { className: "line" }, text);
  const opens = button(el("time", { dateTime: one.at }, time), () => open(one), {
    className: "link", "aria-label": `${time} ${one.method} ${target.slice(0, SPOKEN)}`, "aria-controls": "flow", "aria-expanded": "false", tabIndex: -1,
  });
  opens.flow = one;
  const way = one.code
    ? [line(badge(`${t("refused")}: ${one.reason}`, "bad")), el("div", { className: "line note", title: word("reason", one.reason) }, word("reason", one.reason))]
    : [line([exitOf(one), one.pool].filter(Boolean).join(" · ")),
      el("div", { className: "line note", title: hop(one) }, hop(one) ? el("code", {}, hop(one)) : "–", " ",
        one.family && one.family !== "auto" ? badge(familyText(one.family), one.family) : "",
        one.cut && ` ${word("cut", one.cut)}`)];
  const amount = (sign, value) => (value === null ? "" : el("div", {}, `${sign} ${bytes(value)}`));
  const cell = (name, ...children) => el("td", { className: name }, children);
  const made = el("tr", {
    className: one.code ? "refused" : "",
    // A click anywhere in the row, unless it marks text.
    onclick: ({ target: at }) => !at.closest("button") && getSelection().type !== "Range" && open(one),
  },
  cell("when", opens), cell("method", one.method || one.kind),
  el("td", { className: "target", title: target }, line(place(one)), line(one.path)),
  cell("status", badge(...answer(one)), one.cut && badge(t("flowCut"), "warn")), cell("way", way),
  cell("took number", one.duration_ms === null ? "–" : milliseconds(one.duration_ms)),
  cell("size number", amount("↓", one.received), amount("↑", one.sent)));
  made.opens = opens;
  return made;
}
