// The Proxy Pool tab.
import { all, exportURL, get, patch, post, remove } from "../api.js";
import { openDialog } from "../dialog.js";
import { badge, button, cell, el, field, notify, select, table } from "../dom.js";
import { contradicts } from "../family.js";
import { t } from "../i18n.js";

const PORTS = { http: 8080, https: 443, socks5: 1080 };
const PAGE = 50;
const query = { q: "", family: "", status: "", sort: "name", offset: 0 };
let chosen = new Set();
let shown = [];
let place;

const families = () => [["auto", t("familyAuto")], ["ipv4", t("familyIpv4")], ["ipv6", t("familyIpv6")]];

export async function enter(main) {
  chosen = new Set();
  place = el("div");
  const search = el("input", { type: "search", value: query.q, id: "search" });
  const again = (name) => (event) => {
    query[name] = event.target.value;
    query.offset = 0;
    load();
  };
  search.addEventListener("input", again("q"));
  main.replaceChildren(
    el("div", { className: "tools" },
      field(t("search"), search),
      field(t("labelFamily"), select([["", t("any")], ...families()], query.family, { onchange: again("family") })),
      field(t("status"), select([["", t("any")], ["active", t("active")], ["inactive", t("inactive")]],
        query.status, { onchange: again("status") })),
      button(t("addProxy"), () => edit(null), { className: "primary", id: "add-proxy" }),
      button(t("import"), importLines), button(t("export"), exportList)),
    el("div", { className: "tools", role: "group", "aria-label": t("selected") },
      button(t("testSelected"), () => bulk(testOne, false)),
      button(t("enable"), () => bulk((proxy) => setStatus(proxy, "active"))),
      button(t("disable"), () => bulk((proxy) => setStatus(proxy, "inactive"))),
      button(t("delete"), deleteChosen, { className: "danger" })),
    place);
  await load();
}

async function load() {
  const asked = new URLSearchParams({ ...query, limit: PAGE });
  const found = await get(`/proxies?${asked}`);
  shown = found.items;
  const { offset, total } = found.page;
  const turn = (by) => () => {
    query.offset = Math.max(0, offset + by);
    load();
  };
  place.replaceChildren(
    table(heads(), shown.map(row), t("tab_proxies")),
    el("div", { className: "pager" },
      button(t("previous"), turn(-PAGE), { disabled: offset === 0 }),
      el("span", {}, t("pageOf", { from: total ? offset + 1 : 0, to: offset + shown.length, total })),
      button(t("next"), turn(PAGE), { disabled: offset + shown.length >= total })));
}

function heads() {
  const sortable = (key, name) => {
    const up = query.sort === name;
    const down = query.sort === `-${name}`;
    return el("th", { scope: "col", "aria-sort": up ? "ascending" : down ? "descending" : "none" },
      button(t(key) + (up ? " ▲" : down ? " ▼" : ""), () => {
        query.sort = up ? `-${name}` : name;
        load();
      }));
  };
  const everything = el("input", {
    type: "checkbox", "aria-label": t("selectAll"),
    onchange: (event) => {
      shown.forEach((proxy) => (event.target.checked ? chosen.add(proxy.id) : chosen.delete(proxy.id)));
      load();
    },
  });
  return [el("th", { scope: "col" }, everything), sortable("labelName", "name"), sortable("labelEndpoint", "host"),
    sortable("labelFamily", "family"), sortable("status", "status"), sortable("lastTest", "last_test"),
    sortable("usedBy", "used_by"), el("th", { scope: "col" }, t("actions"))];
}

function row(proxy) {
  const own = proxy.source === "registry";
  const tick = el("input", {
    type: "checkbox", checked: chosen.has(proxy.id), "aria-label": t("selectOne", { name: proxy.name }),
    onchange: (event) => (event.target.checked ? chosen.add(proxy.id) : chosen.delete(proxy.id)),
  });
  const state = proxy.problem ? badge(t("unusable"), "bad")
    : badge(t(proxy.status), proxy.status === "active" ? "good" : "warn");
  const actions = [button(t("test"), (event) => testRow(proxy, event.target), { className: "small" })];
  if (own) {
    const on = proxy.status === "active";
    actions.push(
      button(t(on ? "disable" : "enable"), () => change(() => setStatus(proxy, on ? "inactive" : "active")), { className: "small" }),
      button(t("edit"), () => edit(proxy), { className: "small" }),
      button(t("delete"), () => deleteOne(proxy), { className: "small danger" }));
  }
  return el("tr", { "data-name": proxy.name },
    cell(tick),
    cell(proxy.name, proxy.region ? el("p", { className: "note" }, proxy.region) : null,
      own ? null : el("p", { className: "note" }, t("fromFile")),
      proxy.problem ? el("p", { className: "note bad" }, proxy.problem) : null),
    cell(`${proxy.type}://${proxy.host.includes(":") ? `[${proxy.host}]` : proxy.host}:${proxy.port}`),
    cell(badge(familyText(proxy.family), proxy.family === "auto" ? "" : "good")),
    cell(state), cell(outcome(proxy.last_test)), cell(String(proxy.used_by)),
    el("td", { className: "actions" }, actions.flatMap((one) => [one, " "])));
}

function familyText(family) {
  return { auto: t("familyAuto"), ipv4: t("familyIpv4"), ipv6: t("familyIpv6") }[family] || family;
}

function outcome(result) {
  if (!result) return el("span", { className: "note" }, t("never"));
  if (!result.ok) return el("span", {}, badge(t("failed"), "bad"), el("p", { className: "note" }, result.detail));
  const ms = (key, value) => (value === null ? "" : `${t(key)} ${Math.round(value)} ms`);
  const split = [ms("timeDns", result.dns_ms), ms("timeConnect", result.connect_ms),
    ms("timeHandshake", result.handshake_ms), ms("timeFirstByte", result.first_byte_ms)].filter(Boolean).join(" · ");
  return el("span", {}, badge(`${Math.round(result.total_ms)} ms`, "good"), " ", result.egress_ip || "",
    el("p", { className: "note" }, split));
}

async function testRow(proxy, control) {
  control.disabled = true;
  try {
    await testOne(proxy);
  } catch (error) {
    notify(error.message, "bad");
  }
  await load();
}

async function testOne(proxy) {
  const result = await post(`/proxies/${encodeURIComponent(proxy.id)}/test`, {});
  notify(`${proxy.name}: ${result.ok ? t("good") : result.detail}`, result.ok ? "good" : "bad");
}

const setStatus = (proxy, status) => patch("/proxies", { id: proxy.id, status }, proxy.etag);

async function change(act) {
  try {
    await act();
  } catch (error) {
    notify(error.message, "bad");
  }
  await load();
}

async function bulk(act, ownOnly = true) {
  const proxies = (await all("/proxies")).filter((one) => chosen.has(one.id) && (!ownOnly || one.source === "registry"));
  if (!proxies.length) return notify(t("nothingSelected"), "warn");
  let done = 0;
  const work = [...proxies];
  const next = async () => {
    for (let proxy = work.shift(); proxy; proxy = work.shift()) {
      try {
        await act(proxy);
        done += 1;
      } catch (error) {
        notify(`${proxy.name}: ${error.message}`, "bad");
      }
    }
  };
  await Promise.all([next(), next(), next(), next()]);
  notify(t("bulkDone", { done, total: proxies.length }));
  await load();
}

function deleteChosen() {
  openDialog(t("delete"), el("p", {}, t("confirmDeleteSelected", { count: chosen.size })),
    { verb: t("delete"), danger: true, act: () => bulk((proxy) => remove(`/proxies?id=${encodeURIComponent(proxy.id)}`)) });
}

async function deleteOne(proxy) {
  const path = `/proxies?id=${encodeURIComponent(proxy.id)}`;
  const usage = await get(`${path}&where_used=1`);
  const users = [...usage.pools, ...usage.rules, ...usage.assignments].map((one) => one.name);
  const content = [el("p", {}, t("confirmDelete", { name: proxy.name }))];
  if (users.length) {
    content.push(el("p", { className: "note warn" }, t("inUse", { users: users.join(", ") })),
      el("p", { className: "note warn" }, t("forcedHint")));
  }
  openDialog(t("delete"), content, {
    verb: users.length ? t("deleteForced") : t("delete"), danger: true,
    async act() {
      await remove(users.length ? `${path}&force=1` : path);
      await load();
    },
  });
}

function edit(proxy) {
  const at = proxy || { type: "http", port: PORTS.http, family: "auto", status: "active", host: "", name: "" };
  const text = (name, properties = {}) => el("input", { name, value: at[name] ?? "", ...properties });
  const controls = {
    name: text("name", { required: true, maxLength: 120 }),
    type: select([["http", "HTTP"], ["https", "HTTPS"], ["socks5", "SOCKS5"]], at.type, { name: "type" }),
    host: text("host", { required: true, maxLength: 255 }),
    port: text("port", { type: "number", min: 1, max: 65535 }),
    family: select(families(), at.family, { name: "family", "aria-describedby": "family-hint" }),
    target_family: select([["", t("targetNone")], ...families().slice(1)], at.target_family || "", { name: "target_family" }),
    username: text("username", { autocomplete: "off" }),
    password: el("input", { name: "password", type: "password", autocomplete: "new-password",
      placeholder: at.password?.set ? t("keepPassword") : "" }),
    region: text("region", { maxLength: 64 }),
    status: select([["active", t("active")], ["inactive", t("inactive")]], at.status, { name: "status" }),
    notes: el("textarea", { name: "notes", value: at.notes || "", maxLength: 1000 }),
  };
  const drop = el("input", { type: "checkbox", name: "drop" });
  const warning = el("p", { className: "note warn", role: "alert", id: "family-warning" });
  const warn = () => {
    const wrong = contradicts(controls.host.value, controls.family.value);
    warning.textContent = wrong ? t("familyContradiction") : "";
  };
  controls.host.addEventListener("input", warn);
  controls.family.addEventListener("change", warn);
  controls.type.addEventListener("change", () => {
    if (!proxy && Object.values(PORTS).includes(Number(controls.port.value))) controls.port.value = PORTS[controls.type.value];
  });
  const content = el("div", { className: "form" },
    field(t("labelName"), controls.name), field(t("labelType"), controls.type),
    field(t("labelHost"), controls.host), field(t("labelPort"), controls.port),
    el("div", { className: "wide" }, field(t("labelFamily"), controls.family),
      el("p", { className: "note", id: "family-hint" }, t("familyHint")), warning),
    field(t("targetFamily"), controls.target_family), field(t("status"), controls.status),
    field(t("username"), controls.username), field(t("password"), controls.password),
    at.password?.set ? el("label", { className: "wide" }, drop, " ", t("dropPassword")) : null,
    field(t("region"), controls.region), field(t("notes"), controls.notes));
  openDialog(t(proxy ? "editProxy" : "addProxy"), content, {
    async act() {
      const stated = Object.fromEntries(Object.entries(controls).map(([key, control]) => [key, control.value]));
      stated.port = Number(stated.port);
      stated.target_family = stated.target_family || null;
      if (!stated.password) delete stated.password;
      if (drop.checked) stated.password = "";
      if (!proxy) await post("/proxies", stated);
      else await patch("/proxies", { id: proxy.id, ...changed(stated, proxy) }, proxy.etag);
      await load();
    },
  });
  warn();
}

function changed(stated, proxy) {
  return Object.fromEntries(Object.entries(stated).filter(([key, value]) => key === "password" || value !== (proxy[key] ?? null)));
}

function importLines() {
  const lines = el("textarea", { rows: 8, className: "wide", id: "import-lines", required: true });
  const results = el("div", { "aria-live": "polite" });
  let tried = "";
  const show = (report) => results.replaceChildren(
    el("p", {}, t("importCounts", report)),
    ...report.results.filter((line) => line.message).map((line) =>
      el("p", { className: `note ${line.outcome === "failed" ? "bad" : ""}` }, t("importLine", line))));
  openDialog(t("import"), [field(t("importHint"), lines), results], {
    verb: t("import"),
    async act() {
      const text = lines.value;
      const first = tried !== text;
      const report = await post("/proxies/import", { text, dry_run: first });
      tried = text;
      show(report);
      if (first) return false;
      notify(t("importCounts", report));
      await load();
    },
  });
}

function exportList() {
  const format = select([["text", "text"], ["csv", "CSV"], ["json", "JSON"]], "text");
  const secrets = el("input", { type: "checkbox" });
  openDialog(t("export"), el("div", { className: "form" }, field(t("format"), format),
    el("label", {}, secrets, " ", t("withSecrets"))), {
    verb: t("export"),
    act: () => el("a", { href: exportURL(format.value, secrets.checked), download: "" }).click(),
  });
}
