// The Proxy Pool tab: the list, and what is done to one or to many of it.
import { all, get, patch, pathOf, post, remove } from "../api.js";
import { confirm, openDialog } from "../dialog.js";
import { badge, busy, button, cell, el, field, note, notify, refill, rowButton, select, settled, table, tell } from "../dom.js";
import { showExits } from "../exits.js";
import { families, familyText } from "../family.js";
import { fares, resetButton } from "../fares.js";
import { dateOf, inWords, joined, shown, t } from "../i18n.js";
import { Listing } from "../listing.js";
import { editProxy } from "./proxy_form.js";
import { exportList, importList } from "./transfer.js";

const AT_ONCE = 4;
const chosen = new Map();
let list;
let place;

export async function enter(main) {
  const kept = list?.query ?? { q: "", family: "", status: "", sort: "name" };
  list = new Listing("/proxies", draw, { query: kept });
  const proxies = { bulk: el("div"), rows: el("div") };
  place = proxies;
  const search = el("input", { type: "search", value: kept.q, id: "search" });
  search.addEventListener("input", settled(() => list.ask({ q: search.value })));
  const ask = (name) => (event) => list.ask({ [name]: event.target.value });
  const states = [["", t("any")], ["active", t("active")], ["inactive", t("inactive")]];
  refill(main,
    el("div", { className: "tools" },
      field(t("search"), search),
      field(t("labelFamily"), select([["", t("any")], ...families()], kept.family, { onchange: ask("family") })),
      field(t("status"), select(states, kept.status, { onchange: ask("status") })),
      el("div", { className: "push" },
        button(t("import"), () => importList(refresh)), button(t("export"), exportList),
        button(t("addProxy"), () => editProxy(null, refresh), { className: "primary", id: "add-proxy" }))),
    place.bulk, place.rows);
  chosen.clear();
  await list.load();
}

const refresh = () => list.refresh();

// How proxies fare changes by itself; what is done to many of them is not interrupted.
export function update() {
  if (list.items.length && !place.bulk.querySelector("progress")) list.poll(place.rows, drawRows).catch(tell);
}

function drawRows() {
  const items = JSON.stringify(list.items);
  if (items !== place.drawn) place.table.fill(list.items.map(row));
  place.drawn = items;
}

function draw() {
  for (const proxy of list.items) if (chosen.has(proxy.id)) chosen.set(proxy.id, proxy);
  const asked = list.query.q || list.query.family || list.query.status;
  const empty = t(asked ? "nothingFound" : "noProxies");
  place.drawn = JSON.stringify(list.items);
  place.table = table(t("tab_proxies"), heads(), list.items.map(row), empty);
  refill(place.rows, place.table, list.pager());
  drawBulk();
}

function heads() {
  const sortable = (key, name) => {
    const up = list.query.sort === name;
    const down = list.query.sort === `-${name}`;
    const order = up ? "ascending" : down ? "descending" : "none";
    return el("th", { scope: "col", "data-name": t(key), "aria-sort": order },
      button(t(key), () => list.ask({ sort: up ? `-${name}` : name }), { "data-key": `sort-${name}` }));
  };
  const everything = el("input", {
    type: "checkbox", "aria-label": t("selectAll"), "data-key": "select-all",
    checked: list.items.length > 0 && list.items.every((one) => chosen.has(one.id)),
    onchange: (event) => {
      for (const one of list.items) choose(one, event.target.checked);
      draw();
    },
  });
  return [el("th", { scope: "col", "data-name": "" }, everything), sortable("labelName", "name"),
    sortable("labelEndpoint", "host"), sortable("labelFamily", "family"), sortable("status", "status"),
    t("now"), sortable("lastTest", "last_test"), sortable("usedBy", "used_by"), t("actions")];
}

function row(proxy) {
  const own = proxy.source === "registry";
  const tick = el("input", {
    type: "checkbox", checked: chosen.has(proxy.id),
    "aria-label": t("selectOne", { name: proxy.name }), "data-key": `select-${proxy.id}`,
    onchange: (event) => {
      choose(proxy, event.target.checked);
      draw();
    },
  });
  return el("tr", { "data-name": proxy.name },
    cell(tick),
    cell(el("strong", {}, proxy.name), own ? null : note(t("fromFile")), note(proxy.region),
      note(inWords(proxy, "problem"), "bad")),
    cell(el("code", {}, endpoint(proxy)), note(proxy.username && t("asUser", { name: proxy.username }))),
    cell(badge(familyText(proxy.family), proxy.family)),
    cell(state(proxy, own)), cell(proxy.now ? [...fares(proxy.now, proxy.status), resetButton(proxy.now, proxy.name, refresh)] : ""),
    cell(...outcome(proxy.last_test)), cell(usage(proxy)),
    el("td", { className: "actions" },
      rowButton(t("test"), proxy.name, (event) => testRow(proxy, event.target)),
      proxy.now ? rowButton(t("exits"), proxy.name, () => showExits(proxy).catch(tell)) : null,
      own ? [
        rowButton(t("edit"), proxy.name, () => editProxy(proxy.id, refresh)),
        rowButton(t("delete"), proxy.name, () => deleteOne(proxy).catch(tell), { className: "small danger" })] : null));
}

export function endpoint(proxy) {
  return `${proxy.type}://${proxy.host.includes(":") ? `[${proxy.host}]` : proxy.host}:${proxy.port ?? ""}`;
}

function state(proxy, own) {
  if (proxy.problem) return badge(t("unusable"), "bad");
  const on = proxy.status === "active";
  const text = badge(t(on ? "active" : "inactive"), on ? "good" : "warn");
  if (!own) return text;
  return el("label", { className: "switch" }, el("input", {
    type: "checkbox", role: "switch", checked: on,
    "aria-label": t("switchOf", { name: proxy.name }), "data-key": `switch-${proxy.id}`,
    onchange: (event) => setStatus(proxy, event.target.checked ? "active" : "inactive").catch(tell).then(refresh),
  }), text);
}

function outcome(result) {
  if (!result) return [note(t("never"))];
  const at = el("time", { dateTime: result.at }, dateOf(result.at));
  const when = el("p", { className: "note" }, at);
  if (!result.ok) return [badge(t("failed"), "bad"), note(inWords(result, "detail"), "bad"), when];
  const times = [["timeDns", result.dns_ms], ["timeConnect", result.connect_ms],
    ["timeHandshake", result.handshake_ms], ["timeFirstByte", result.first_byte_ms]]
    .filter(([, value]) => value !== null).map(([key, value]) => `${t(key)} ${ms(value)}`);
  return [badge(ms(result.total_ms), "good"), result.egress_ip ? el("code", {}, ` ${result.egress_ip}`) : null,
    note(times.join(" · ")), when];
}

const ms = (value) => `${shown(value < 10 ? value : Math.round(value))} ms`;

function usage(proxy) {
  if (!proxy.used_by) return "0";
  return button(shown(proxy.used_by), () => showUsage(proxy).catch(tell),
    { className: "link", "aria-label": t("usageOf", { name: proxy.name }), "data-key": `usage-${proxy.id}` });
}

// -- one of them

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
    chosen.delete(proxy.id);
    await refresh();
  });
}

async function testRow(proxy, control) {
  await busy(control, async () => {
    const result = await test(proxy);
    notify(result.ok ? `${proxy.name}: ${t("good")}` : inWords(result, "detail"), result.ok ? "good" : "bad");
  });
  await refresh();
}

const test = (proxy) => post(`/proxies/${encodeURIComponent(proxy.id)}/test`, {});
const setStatus = (proxy, status) => patch("/proxies", { id: proxy.id, status });

// -- many of them

function choose(proxy, on) {
  if (on) chosen.set(proxy.id, proxy);
  else chosen.delete(proxy.id);
}

function drawBulk() {
  if (!chosen.size) return refill(place.bulk);
  const act = (text, work, properties) => button(text, work, { "data-key": text, ...properties });
  refill(place.bulk, el("div", { className: "tools bulk", role: "group", "aria-label": t("selected") },
    el("span", { role: "status" }, t("selectedCount", { count: chosen.size })),
    act(t("test"), () => bulk(test, {
      failed: (result) => !result.ok && inWords(result, "detail"), mine: false, summary: "testsDone",
    })),
    act(t("enable"), () => bulk((proxy) => setStatus(proxy, "active"))),
    act(t("disable"), () => bulk((proxy) => setStatus(proxy, "inactive"))),
    act(t("delete"), deleteChosen, { className: "danger" }),
    chosen.size < list.total ? act(t("selectFound", { count: list.total }), chooseFound) : null,
    act(t("selectNone"), () => {
      chosen.clear();
      draw();
    })));
}

async function chooseFound(event) {
  event.target.disabled = true;
  const found = await all("/proxies", list.query).catch(tell);
  for (const proxy of found ?? []) choose(proxy, true);
  draw();
}

function deleteChosen() {
  confirm(t("confirmDeleteSelected", { count: chosen.size }), [], t("delete"), () => {
    bulk((proxy) => remove(pathOf("proxies", proxy.id)).then(() => chosen.delete(proxy.id)));
  });
}

// Does it to all that are chosen, a few at a time, and says how far it is; it can be stopped.
async function bulk(act, { failed = () => "", mine = true, summary = "bulkDone" } = {}) {
  const proxies = [...chosen.values()].filter((one) => !mine || one.source === "registry");
  const work = [...proxies];
  const problems = [];
  const bar = el("progress", { max: proxies.length, value: 0, "aria-label": t("progress") });
  refill(place.bulk, el("div", { className: "tools bulk" }, bar, button(t("stop"), () => work.splice(0))));
  const next = async () => {
    for (let proxy = work.shift(); proxy; proxy = work.shift()) {
      const why = await act(proxy).then((result) => failed(result), (error) => error.message);
      if (why) problems.push(why.includes(proxy.name) ? why : `${proxy.name}: ${why}`);
      bar.value += 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  for (const problem of problems.slice(0, 3)) notify(problem, "bad");
  const counts = { tried: bar.value, done: bar.value - problems.length, failed: problems.length };
  notify(t(summary, { ...counts, total: proxies.length }), problems.length ? "warn" : "good");
  await refresh();
}
