// What is in force, and the registry's settings.
import { get, put } from "../api.js";
import { badge, el, field, notify, select, table, cell } from "../dom.js";
import { t } from "../i18n.js";

export async function enter(main) {
  const [found, settings] = await Promise.all([get("/status"), get("/settings")]);
  const { policy, registry, dns, totals } = found;
  const facts = [
    [t("state"), badge(found.problem || t("inForce"), found.problem ? "bad" : "good")],
    [t("version"), found.version],
    [t("defaultAction"), `${t(`use_${found.default}`)} (${t(`from_${found.default_from.replace(" ", "_")}`)})`],
    [t("unmatched"), String(totals.unmatched)],
    [t("policyFile"), policy.path ? `${policy.path}: ${t("counts", policy)}` : t("none")],
    policy.error ? [t("lastEdit"), el("span", { className: "bad" }, policy.error)] : null,
    [t("registry"), registry ? `${registry.name}: ${t("counts", registry)}` : t("none")],
    registry?.error ? [t("registry"), el("span", { className: "bad" }, registry.error)] : null,
    ["DNS", `${dns.servers.join(", ") || t("systemDns")}, ${dns.timeout_ms} ms`],
    ["SOCKS5", t(found.socks5 ? "on" : "off")],
    [t("flows"), Object.entries(totals.by_use).map(([use, count]) => `${t(`use_${use}`)} ${count}`).join(", ") || "0"],
  ].filter(Boolean);
  const notes = [...found.warnings, ...found.problems];
  main.replaceChildren(
    el("dl", { className: "facts" }, facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    ...(notes.length ? [el("h2", {}, t("warnings")), el("ul", {}, notes.map((note) => el("li", { className: "warn" }, note)))] : []),
    el("h2", {}, t("refusals")),
    table([t("code"), t("reason"), t("count")], totals.refusals.map((one) =>
      el("tr", {}, cell(one.code), cell(one.reason), cell(String(one.count)))), t("refusals")),
    registry ? form(settings) : "");
}

function form(settings) {
  const chosen = select([["", t("notStated")], ["direct", t("use_direct")], ["refuse", t("use_refuse")]], settings.default || "");
  const url = el("input", { type: "url", value: settings.test_url || "", placeholder: "https://api64.ipify.org/" });
  return el("form", {
    async onsubmit(event) {
      event.preventDefault();
      try {
        await put("/settings", { default: chosen.value || null, test_url: url.value || null });
        notify(t("saved"), "good");
      } catch (error) {
        notify(error.message, "bad");
      }
    },
  }, el("h2", {}, t("settings")), el("div", { className: "tools" }, field(t("defaultAction"), chosen), field(t("testUrl"), url),
    el("button", { type: "submit", className: "primary" }, t("save"))));
}
