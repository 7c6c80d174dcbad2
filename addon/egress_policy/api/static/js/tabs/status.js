// The Status tab: what is in force, what flows came to, and the registry's settings.
import { get, put } from "../api.js";
import { badge, cell, el, field, note, notify, refill, select, table } from "../dom.js";
import { joined, shown, t, word } from "../i18n.js";

let place;

export async function enter(main) {
  const [found, settings] = await Promise.all([get("/status"), get("/settings")]);
  place = el("div", { className: "columns" });
  refill(main, place, found.registry ? settingsForm(settings) : null);
  update(found);
}

export function update(found) {
  refill(place, facts(found), warnings(found), totals(found.totals));
}

const number = (text) => el("th", { scope: "col", className: "number" }, text);

function counts(one) {
  return joined([t("countProxies", { count: one.proxies }), t("countPools", { count: one.pools }), t("countRules", { count: one.rules })]);
}

function facts({ policy, registry, dns, ...found }) {
  const source = (one, name, error) => [name, note(counts(one)), note(error, "bad")];
  const rows = [
    ["state", badge(found.problem || t("inForce"), found.problem ? "bad" : "good")],
    ["version", found.version],
    ["defaultAction", [badge(t(`use_${found.default}`), found.default === "refuse" ? "bad" : ""), note(word("from", found.default_from))]],
    ["unmatched", shown(found.totals.unmatched)],
    ["policyFile", policy.path ? source(policy, policy.path, policy.error && `${t("lastEdit")}: ${policy.error}`) : t("none")],
    ["registry", registry ? source(registry, registry.name, registry.error) : t("none")],
    ["dns", [dns.servers.join(", ") || t("systemDns"), note(t("dnsFacts", { ms: dns.timeout_ms, file: dns.hosts_file || t("none") }))]],
    ["socks5", t(found.socks5 ? "on" : "off")],
    ["listen", found.listen],
  ];
  return el("section", { className: "panel" }, el("h2", {}, t("inForceNow")), el("dl", { className: "facts" },
    rows.flatMap(([key, value]) => [el("dt", {}, t(key)), el("dd", {}, value)])));
}

function warnings(found) {
  const notes = [...found.warnings, ...found.problems];
  if (!notes.length) return null;
  return el("section", { className: "panel" }, el("h2", {}, t("warnings")), el("ul", {}, notes.map((one) => el("li", { className: "warn" }, one))));
}

function totals(found) {
  const counted = (pairs) => pairs.toSorted((a, b) => b[1] - a[1]).map(([name, count]) =>
    el("tr", {}, cell(name), el("td", { className: "number" }, shown(count))));
  const uses = Object.entries(found.by_use).map(([use, count]) => [t(`use_${use}`), count]);
  const refusals = found.refusals.map((one) => el("tr", {}, cell(el("code", {}, one.code)),
    cell(one.reason, note(word("reason", one.reason))), el("td", { className: "number" }, shown(one.count))));
  return el("section", { className: "panel" }, el("h2", {}, t("flowsSinceStart")),
    table(t("flows"), [t("egress"), number(t("count"))], [...counted(uses), ...counted(Object.entries(found.by_proxy)).slice(0, 20)], t("liveNothing")),
    el("h3", {}, t("refusals")), table(t("refusals"), [t("code"), t("reason"), number(t("count"))], refusals, t("none")));
}

function settingsForm(settings) {
  const chosen = select([["", t("notStated")], ["direct", t("use_direct")], ["refuse", t("use_refuse")]], settings.default ?? "", { name: "default" });
  const url = el("input", { name: "test_url", type: "url", value: settings.test_url ?? "", placeholder: "https://api64.ipify.org/" });
  const problem = el("p", { className: "note bad", role: "alert" });
  return el("form", {
    className: "panel", noValidate: true,
    async onsubmit(event) {
      event.preventDefault();
      problem.textContent = "";
      try {
        await put("/settings", { default: chosen.value || null, test_url: url.value.trim() || null });
        update(await get("/status"));
        notify(t("saved"), "good");
      } catch (error) {
        problem.textContent = error.message;
      }
    },
  }, el("h2", {}, t("settings")), el("div", { className: "form" }, field(t("defaultAction"), chosen, t("defaultHint")),
    field(t("testUrl"), url, t("testUrlHint"))), problem,
  el("div", { className: "end" }, el("button", { type: "submit", className: "primary" }, t("save"))));
}
