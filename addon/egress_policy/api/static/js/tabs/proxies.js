// The Proxy Pool tab: the list of proxies, what of it is shown, and what is done to one of it.
import { get, patch, pathOf, post, remove } from "../api.js";
import { confirm, openDialog } from "../dialog.js";
import { button, busy, el, field, inHand, nothing, notify, refill, select, settled, table, tell } from "../dom.js";
import { showExits } from "../exits.js";
import { families } from "../family.js";
import { inWords, joined, t } from "../i18n.js";
import { Listing } from "../listing.js";
import { Many } from "./many.js";
import { editProxy } from "./proxy_form.js";
import { proxyRow } from "./proxy_row.js";
import { showSubscriptions } from "./subscriptions.js";
import { exportList, importList } from "./transfer.js";

const TYPES = [["http", "HTTP"], ["https", "HTTPS"], ["socks5", "SOCKS5"]];
const USUAL = { q: "", type: "", family: "", status: "", test: "", tag: "", region: "", sort: "name" };
const TYPED = 60;
let view;

export async function enter(main) {
  const list = new Listing("/proxies", draw, { query: USUAL, tab: "proxies" });
  const many = new Many({ list, redraw: drawRows, refresh, showFailed });
  view = { list, many, rows: el("div"), clear: button(t("clearFilters"), () => clear()) };
  refill(main,
    el("div", { className: "tools" }, filters(),
      el("div", { className: "push" },
        button(t("testAll"), () => many.testFound(), { id: "test-all" }),
        button(t("import"), () => importList(refresh)), button(t("export"), exportList),
        button(t("subscriptions"), () => showSubscriptions(refresh).catch(tell), { id: "subscriptions-open" }),
        button(t("addProxy"), () => editProxy(null, refresh), { className: "primary", id: "add-proxy" }))),
    many.run.place, many.place, view.rows);
  // An address may ask for what cannot be asked for.
  const misled = (error) => (error.status === 400 ? clear(USUAL) : Promise.reject(error));
  await Promise.all([list.load().catch(misled), showLabels()]);
}

// How proxies fare changes by itself; rows that are being tested are drawn as results come.
export function update() {
  const { list, many, rows } = view;
  if (list.items.length && !many.run.isOn) list.poll(rows, drawRows).catch(tell);
}

function refresh() {
  showLabels().catch(tell);
  return view.list.refresh();
}

// -- what is shown

function filters() {
  const { list } = view;
  const search = el("input", { type: "search", value: list.query.q, id: "search" });
  search.addEventListener("input", settled(() => list.ask({ q: search.value }, { typed: "q" }), TYPED));
  const choose = (name, label, options) => field(t(label), select([["", t("any")], ...options], list.query[name], {
    name, onchange: ({ target }) => list.ask({ [name]: target.value }),
  }));
  view.tags = choose("tag", "tag", []);
  view.regions = choose("region", "region", []);
  view.tags.hidden = view.regions.hidden = true;
  return [
    field(t("search"), search, "", { className: "field grow" }), choose("type", "labelType", TYPES),
    choose("family", "labelFamily", families()),
    choose("status", "status", [["active", t("active")], ["inactive", t("inactive")]]),
    choose("test", "lastTest", [["good", t("good")], ["failed", t("failed")], ["none", t("never")]]),
    view.tags, view.regions, view.clear];
}

// The tags and regions that there are; one that is asked for stands there also when nothing has it.
async function showLabels() {
  const { tags, regions } = await get("/proxies/labels");
  for (const [place, name, labels] of [[view.tags, "tag", tags], [view.regions, "region", regions]]) {
    const asked = view.list.query[name];
    const found = labels.map(({ label, proxies }) => [label, t("labelCount", { label, proxies })]);
    if (asked && !labels.some(({ label }) => label === asked)) found.unshift([asked, asked]);
    place.hidden = !found.length;
    const control = place.querySelector("select");
    control.replaceChildren(...[["", t("any")], ...found].map(([value, text]) =>
      el("option", { value, selected: value === asked }, text)));
  }
}

function showFailed() {
  view.rows.parentElement.querySelector("[name=test]").value = "failed";
  view.list.ask({ test: "failed" });
}

const asked = () => Object.entries(USUAL).some(([key, value]) => key !== "sort" && view.list.query[key] !== value);

function clear({ sort } = view.list.query) {
  for (const control of view.clear.parentElement.querySelectorAll(".field :is(input, select)")) control.value = "";
  return view.list.ask({ ...USUAL, sort }).then(() => document.getElementById("search")?.focus());
}

function draw() {
  const { list, many, rows } = view;
  view.clear.hidden = !asked();
  view.drawn = undefined;
  const empty = asked() ? t("nothingFound") : nothing(t("noProxies"), t("noProxiesHint"),
    button(t("addFirstProxy"), () => editProxy(null, refresh)), button(t("importList"), () => importList(refresh)));
  view.table = table(t("tab_proxies"), heads(), [], empty);
  view.table.classList.add("compact");
  drawRows();
  refill(rows, view.table, list.pager());
  many.draw();
}

// A row that is pressed or marked is drawn when the next change comes.
function drawRows() {
  const { list, many } = view;
  const drawn = JSON.stringify([list.items, [...many.chosen.keys()], list.items.map(({ id }) => many.run.waits(id))]);
  if (drawn === view.drawn || (view.drawn && inHand(view.rows))) return;
  view.drawn = drawn;
  view.table.fill(list.items.map((one) => proxyRow(one, {
    isChosen: many.chosen.has(one.id), isWaiting: many.run.waits(one.id), choose: (on) => choose([one], on),
    test: (control) => busy(control, () => test(one)),
    edit: () => editProxy(one.id, refresh), exits: () => showExits(one).catch(tell),
    remove: () => deleteOne(one).catch(tell), usage: () => showUsage(one).catch(tell),
    setStatus: (status) => patch("/proxies", { id: one.id, status }).catch(tell).then(refresh), refresh,
  })));
}

function heads() {
  const { list, many } = view;
  const everything = el("input", {
    type: "checkbox", "aria-label": t("selectAll"), "data-key": "select-all",
    checked: list.items.length > 0 && list.items.every(({ id }) => many.chosen.has(id)),
    onchange: ({ target }) => choose(list.items, target.checked),
  });
  return [el("th", { scope: "col", "data-name": "" }, everything), list.head(t("labelName"), "name"),
    list.head(t("labelEndpoint"), "host"), list.head(t("labelFamily"), "family"), list.head(t("status"), "status"),
    list.head(t("lastTest"), "last_test"), list.head(t("usedBy"), "used_by"), t("actions")];
}

function choose(proxies, on) {
  view.many.choose(proxies, on);
  draw();
}

// -- one of them

async function test(proxy) {
  const result = await post(`/proxies/${encodeURIComponent(proxy.id)}/test`, {});
  notify(result.ok ? `${proxy.name}: ${t("good")}` : inWords(result, "detail"), result.ok ? "good" : "bad");
  await view.list.refresh();
}

async function users(proxy) {
  const { pools, rules, assignments } = await get(`${pathOf("proxies", proxy.id)}&where_used=1`);
  return [["pools", pools], ["rules", rules], ["assignments", assignments]].filter(([, found]) => found.length);
}

async function showUsage(proxy) {
  const found = await users(proxy);
  openDialog(t("usageOf", { name: proxy.name }), el("dl", { className: "facts" }, found.flatMap(([kind, refs]) =>
    [el("dt", {}, t(`kind_${kind}`)), el("dd", {}, refs.map((one) => el("div", {}, one.name)))])));
}

async function deleteOne(proxy) {
  const names = (await users(proxy)).flatMap(([, refs]) => refs.map((one) => one.name));
  const used = names.length > 0;
  const warnings = used ? [t("inUse", { users: joined(names) }), t("forcedHint")] : [];
  confirm(t("confirmDelete", { name: proxy.name }), warnings, t(used ? "deleteForced" : "delete"), async () => {
    await remove(pathOf("proxies", proxy.id) + (used ? "&force=1" : ""));
    view.many.choose([proxy], false);
    await refresh();
  });
}
