// The Overview tab: what flows did during the last hour, and how each exit fares. It follows by itself
// and moves nothing meanwhile: an exit keeps its row until a person sorts, searches or turns the page.
import { Bars, columns, line, share } from "../charts.js";
import { button, cell, el, field, note, refill, settled, table, tell } from "../dom.js";
import { counted, resetButton, stateWord } from "../fares.js";
import { ago, fromNow, inWords, momentOf, percent, shown, t, word } from "../i18n.js";
import { Listing } from "../listing.js";
import { bytes, milliseconds, upAndDown } from "../units.js";

const COLOURS = 8;
// What is no proxy, and no proxy can be called: its class, which has its colour, and its label.
const OTHERS = new Map([["direct", ["direct", "use_direct"]], ["(other)", ["rest", "otherExits"]]]);
let view;

class Overview extends Listing {
  take(answer, draw) {
    this.found = answer;
    return super.take(answer.exits, draw);
  }
}

export async function enter(main) {
  const list = new Overview("/overview", drawAll, { query: view?.list.query ?? { q: "", sort: "-flows" } });
  const search = el("input", { type: "search", value: list.query.q });
  search.addEventListener("input", settled(() => list.ask({ q: search.value })));
  const bars = new Bars(t("lastHour"), momentOf);
  view = {
    list, bars, colours: new Map(), places: new Map(), start: el("div"),
    numbers: el("dl", { className: "numbers" }), reasons: el("div"), exits: el("div"),
  };
  refill(main, view.start, view.numbers,
    el("div", { className: "hour" },
      el("section", { className: "panel" }, el("h2", {}, t("flowsByExit")), bars.element),
      el("section", { className: "panel" }, el("h2", {}, t("refusalsByReason")), view.reasons)),
    el("section", { id: "exits-now" },
      el("div", { className: "head" }, el("h2", {}, t("exits")), field(t("search"), search)), view.exits));
  await list.load();
}

export function update() {
  if (view?.numbers.isConnected) view.list.poll(view.numbers.parentElement, follow).catch(tell);
}

function drawAll() {
  view.places.clear();
  view.table = table(t("exits"), heads(), [], t(view.list.query.q ? "nothingFound" : "noProxies"));
  view.pager = el("div");
  refill(view.exits, view.table, view.pager);
  follow();
}

function follow() {
  const { list, start, numbers, bars, reasons } = view;
  const { minutes, refused, ...found } = list.found;
  const isQuiet = !found.series.length && !sum(refused);
  refill(start, isQuiet ? firstSteps() : null);
  refill(numbers, figures({ refused, ...found }));
  const left = found.series.map(({ exit, flows }) => ({ name: nameOf(exit), kind: colour(exit, found.series), values: flows }));
  bars.fill(minutes, [...left, { name: t("refused"), kind: "refusals", values: refused }]);
  refill(reasons, ranks(found.reasons));
  view.table.fill(inPlace(list.items).map(row));
  refill(view.pager, list.pager());
}

const sum = (values) => values.reduce((all, value) => all + value, 0);
const nameOf = (exit) => (OTHERS.get(exit) ? t(OTHERS.get(exit)[1]) : exit);

// To its flows alone, live. Those of the others have no name to find them by.
function linkOf(exit) {
  if (OTHERS.get(exit)?.[0] === "rest") return nameOf(exit);
  return el("a", { href: `#live?${new URLSearchParams({ exit })}`, title: t("flowsOfExit") }, nameOf(exit));
}

// An exit keeps its colour as long as it is shown.
function colour(exit, series) {
  if (OTHERS.get(exit)) return OTHERS.get(exit)[0];
  const { colours } = view;
  for (const one of colours.keys()) if (!series.some((shownNow) => shownNow.exit === one)) colours.delete(one);
  if (!colours.has(exit)) {
    const used = new Set(colours.values());
    colours.set(exit, Array.from({ length: COLOURS }, (_, at) => at + 1).find((at) => !used.has(at)));
  }
  return `series-${colours.get(exit)}`;
}

// What was shown before stays where it was; what is new stands behind it.
function inPlace(items) {
  const { places } = view;
  const place = ({ exit }) => places.get(exit) ?? places.size;
  const sorted = items.toSorted((a, b) => place(a) - place(b));
  view.places = new Map(sorted.map(({ exit }, at) => [exit, at]));
  return sorted;
}

function firstSteps() {
  const go = (tab, label, properties) => button(label, () => { location.hash = tab; }, properties);
  return el("section", { className: "panel first-steps" }, el("h2", {}, t("noTraffic")), note(t("noTrafficHint")),
    el("div", { className: "tools" }, go("proxies", t("addProxy"), { className: "primary" }), go("rules", t("addRule"))));
}

function figures({ now, series, refused, hop, bytes: traffic }) {
  const left = sum(series.map(({ flows }) => sum(flows)));
  const away = sum(refused);
  const found = [
    ["perSecond", shown(now.per_second), t("openConnections", { count: now.active })],
    ["flowsLastHour", shown(left + away)],
    ["refusedLastHour", shown(away), away ? percent(away / (left + away)) : ""],
    ["hopTimeHalf", milliseconds(hop.p50_ms), hop.p95_ms === null ? "" : t("hopTimeMost", { ms: milliseconds(hop.p95_ms) })],
    ["traffic", bytes(traffic.up + traffic.down), upAndDown(traffic)],
  ];
  return found.map(([key, value, more]) =>
    el("div", { className: "panel" }, el("dt", {}, t(key)), el("dd", {}, el("strong", {}, value), note(more))));
}

// The most frequent one first, each with its part of all.
function ranks(reasons) {
  const all = sum(reasons.map(({ count }) => count));
  return all ? el("ul", { className: "ranks" }, reasons.map(({ code, reason, count }) => el("li", {},
    el("span", {}, word("reason", reason)), el("b", {}, shown(count)), note(code), share(count / all))))
    : note(t("noRefusals"));
}

const NUMBER = { className: "number" };

function heads() {
  const { list } = view;
  return [list.head(t("exit"), "exit"), t("state"), list.head(t("successRate"), "success_rate"),
    list.head(t("flows"), "flows", NUMBER), list.head(t("refused"), "refused", NUMBER), list.head(t("hopTimes"), "hop"), list.head(t("traffic"), "traffic"),
    list.head(t("connections"), "active", NUMBER), t("address"), list.head(t("lastUsed"), "last_used")];
}

function state(one) {
  if (!one.state) return ["–"];
  const why = one.state === "unusable" ? "" : counted(inWords(one, "why")); // a person's word, which the Proxy Pool has
  return [stateWord(one.state), note(why), resetButton(one, one.exit, () => view.list.refresh())];
}

function row(one) {
  const numbers = one.hop_ms.filter((ms) => ms !== null);
  const counts = (value) => el("td", NUMBER, shown(value));
  return el("tr", { "data-name": one.exit },
    cell(el("strong", {}, linkOf(one.exit))),
    cell(...state(one)),
    cell(one.success_rate === null ? "–" : percent(one.success_rate),
      one.failed ? note(t("failedAttempts", { count: one.failed }), "bad") : null),
    counts(one.flows),
    el("td", { className: `number${one.refused ? " bad" : ""}` }, shown(one.refused)),
    cell(numbers.length ? [line(one.hop_ms, t("hopTimes")), note(milliseconds(numbers.at(-1)))] : "–"),
    cell(sum(one.bytes) ? [columns(one.bytes, t("traffic")), note(upAndDown(one))] : "–"),
    counts(one.active),
    cell(one.address ? [el("code", {}, one.address), note(fromNow(-one.address_age_s))] : "–"),
    cell(one.last_used ? el("time", { dateTime: one.last_used }, ago(one.last_used)) : t("notUsed")));
}
