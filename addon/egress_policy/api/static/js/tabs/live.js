// The Live tab: flows as they end, which took which egress, and why.
import { LIVE } from "../api.js";
import { badge, button, cell, el, field, goTo, note, nothing, refill, select, table } from "../dom.js";
import { follow } from "../events.js";
import { familyText } from "../family.js";
import { shown, t, timeOf, word } from "../i18n.js";

const KEPT = 500;
const DRAWN = 200;
let source;
let view;

export function enter(main) {
  view = { events: [], lost: 0, paused: null, text: "", outcome: "", drawing: 0 };
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
  const wanted = (name) => (event) => {
    view[name] = event.target.value.toLowerCase();
    draw();
  };
  const outcomes = [["", t("any")], ["proxy", t("use_proxy")], ["direct", t("use_direct")], ["refused", t("refused")]];
  const heads = [t("time"), t("request"), t("egress"), t("rule"), t("labelFamily"), t("address"), t("result")];
  view.table = table(t("tab_live"), heads, [],
    nothing(t("liveNothing"), [t("liveHint"), " ", el("code", {}, "curl -x localhost:8080 http://example.com/")],
      goTo("rules", t("explain"))));
  view.count = el("p", { className: "note" });
  view.state = el("span", { className: "badge", role: "status" });
  refill(main,
    el("div", { className: "tools" },
      field(t("search"), el("input", { type: "search", oninput: wanted("text") })),
      field(t("result"), select(outcomes, "", { onchange: wanted("outcome") })),
      pause, button(t("emptyList"), empty), view.state),
    el("div", { id: "flows" }, view.table, view.count));
  listen(view);
  draw();
}

export function leave() {
  source?.close();
  source = null;
}

function listen(here) {
  leave();
  const state = (key, kind) => {
    here.state.textContent = t(key);
    here.state.className = `badge ${kind}`;
  };
  source = follow(LIVE, {
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
  return !view.text || JSON.stringify(one).toLowerCase().includes(view.text);
}

function draw() {
  view.table.fill((view.paused ?? view.events).filter(isWanted).slice(0, DRAWN).map(row));
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

// What came back, and its kind: a request without an answer has failed, a connection has none.
function answer(one) {
  if (one.status === null) return one.method ? [t("failed"), "bad"] : [one.kind, "good"];
  return [String(one.status), one.status >= 500 ? "bad" : one.status >= 400 ? "warn" : "good"];
}

function row(one) {
  const place = `${one.scheme ? `${one.scheme}://` : ""}${one.host}:${one.port}`;
  const egress = one.proxy || t(`use_${one.use}`);
  const result = one.code
    ? [badge(`${t("refused")}: ${one.reason}`, "bad"), note(word("reason", one.reason))]
    : [badge(...answer(one))];
  const details = [];
  if (one.dns_ms !== null) details.push(`${t("timeDns")} ${shown(one.dns_ms)} ms`);
  if (one.reused) details.push(t("reused"));
  return el("tr", { className: one.code ? "refused" : "" },
    cell(el("time", { dateTime: one.at }, timeOf(one.at))),
    cell(one.method ? `${one.method} ` : "", el("code", {}, place), note(one.client)),
    cell(badge(egress, one.use === "refuse" ? "bad" : ""), note(one.pool)),
    cell(one.unmatched ? t("noRuleMatched") : one.rule),
    cell(one.family ? badge(familyText(one.family), one.family) : ""),
    cell(one.address ? el("code", {}, one.address) : "–", note(details.join(" · "))), cell(...result));
}
