// The Status tab: what is in force, what flows came to, and the registry's settings.
import { get, put } from "../api.js";
import { badge, cell, el, field, input, note, notify, plain, refill, select, table } from "../dom.js";
import { capital, eachInWords, inWords, joined, shown, t, word } from "../i18n.js";
import { stateBadge } from "../state.js";

const SHOWN = 20;
let place;

export async function enter(main) {
  const [found, settings] = await Promise.all([get("/status"), get("/settings")]);
  place = el("div", { className: "columns" });
  refill(main, place, found.registry ? settingsForm(settings) : null);
  update(found);
}

// Not before it is there, and not under the hands of who is in it.
export function update(found) {
  if (!place?.isConnected || place.contains(document.activeElement)) return;
  refill(place, facts(found), warnings(found), totals(found.totals));
}

const panel = (title, ...content) => el("section", { className: "panel" }, el("h2", {}, title), content);
const number = (text) => el("th", { scope: "col", className: "number" }, text);

function counts(one) {
  const kinds = [["countProxies", one.proxies], ["countPools", one.pools], ["countRules", one.rules]];
  return joined(kinds.map(([key, count]) => t(key, { count })));
}

function facts({ policy, registry, dns, ...found }) {
  const source = (one, name, error) => [name, note(counts(one)), note(error, "bad")];
  const broken = policy.error && `${t("lastEdit")}: ${policy.error}`;
  const limits = t("dnsFacts", { ms: dns.timeout_ms, file: dns.hosts_file || t("none") });
  const otherwise = badge(t(`use_${found.default}`), found.default === "refuse" ? "bad" : "");
  const rows = [
    ["state", [stateBadge({ policy, registry, ...found }), note(inWords(found, "problem"), "bad")]],
    ["version", found.version],
    ["defaultAction", [otherwise, note(word("from", found.default_from))]],
    ["unmatched", shown(found.totals.unmatched)],
    ["policyFile", policy.path ? source(policy, policy.path, broken) : t("none")],
    ["registry", registry ? source(registry, registry.name, registry.error) : t("none")],
    ["circuits", t("circuitsFacts", { open: found.circuits.open, trial: found.circuits.half_open })],
    ["dns", [dns.servers.join(", ") || t("systemDns"), note(limits)]],
    ["socks5", t(found.socks5 ? "on" : "off")],
    ["listen", found.listen],
  ];
  const listed = rows.flatMap(([key, value]) => [el("dt", {}, t(key)), el("dd", {}, value)]);
  return panel(t("inForceNow"), el("dl", { className: "facts" }, listed));
}

function warnings(found) {
  const notes = [...eachInWords(found, "warnings"), ...eachInWords(found, "problems")];
  if (!notes.length) return null;
  return panel(t("warnings"), el("ul", {}, notes.map((one) => el("li", { className: "warn" }, one))));
}

function totals(found) {
  const counted = (pairs) => pairs.toSorted((a, b) => b[1] - a[1]).map(([name, count]) =>
    el("tr", {}, cell(name), el("td", { className: "number" }, shown(count))));
  const uses = Object.entries(found.by_use).map(([use, count]) =>
    [use === "refuse" ? t("refused") : capital(t(`use_${use}`)), count]);
  const proxies = Object.entries(found.by_proxy);
  const refusals = found.refusals.map((one) => el("tr", {}, cell(el("code", {}, one.code)),
    cell(one.reason, note(word("reason", one.reason))), el("td", { className: "number" }, shown(one.count))));
  return panel(t("flowsSinceStart"),
    table(t("flows"), [t("result"), number(t("count"))], counted(uses), t("liveNothing")),
    el("h3", {}, t("leftByProxy")),
    table(t("leftByProxy"), [t("proxy"), number(t("count"))], counted(proxies).slice(0, SHOWN), t("none")),
    el("h3", {}, t("refusals")),
    table(t("refusals"), [t("code"), t("reason"), number(t("count"))], refusals, t("none")));
}

function settingsForm(settings) {
  const defaults = [["", t("notStated")], ["direct", t("use_direct")], ["refuse", t("use_refuse")]];
  const chosen = select(defaults, settings.default ?? "", { name: "default" });
  const url = input("test_url", settings.test_url, { type: "url", placeholder: "https://api.ipify.org/" });
  const echo = (family) => input(`echo_${family}`, settings.echo?.[family], { type: "url" });
  const [ipv4, ipv6] = [echo("ipv4"), echo("ipv6")];
  const problem = el("p", { className: "note bad", role: "alert" });
  return el("form", {
    className: "panel", noValidate: true,
    async onsubmit(event) {
      event.preventDefault();
      problem.textContent = "";
      try {
        const urls = { ipv4: ipv4.value.trim() || null, ipv6: ipv6.value.trim() || null };
        await put("/settings", {
          default: chosen.value || null, test_url: url.value.trim() || null,
          echo: urls.ipv4 || urls.ipv6 ? urls : null,
        });
        update(await get("/status"));
        notify(t("saved"), "good");
      } catch (error) {
        problem.textContent = plain(error.message);
      }
    },
  }, el("h2", {}, t("settings")),
  el("div", { className: "form" },
    field(t("defaultAction"), chosen, t("defaultHint")), field(t("testUrl"), url, t("testUrlHint")),
    field(t("echoIpv4"), ipv4, t("echoHint")), field(t("echoIpv6"), ipv6)), problem,
  el("div", { className: "end" }, el("button", { type: "submit", className: "primary" }, t("save"))));
}
