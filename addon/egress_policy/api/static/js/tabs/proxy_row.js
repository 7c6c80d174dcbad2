// A proxy as a row of two lines, which keeps its height whatever a test says; the whole of it is in
// a dialog.
import { openDialog } from "../dialog.js";
import { badge, button, cell, el, note, rowButton } from "../dom.js";
import { familyText } from "../family.js";
import { fares, resetButton } from "../fares.js";
import { dateOf, inWords, momentOf, sentence, shown, t, word } from "../i18n.js";
import { milliseconds } from "../units.js";
import { mayBlameTarget } from "./test_run.js";

export function proxyRow(proxy, { isChosen, isWaiting, ...act }) {
  const own = proxy.source === "registry";
  const tick = el("input", {
    type: "checkbox", checked: isChosen, "aria-label": t("selectOne", { name: proxy.name }),
    "data-key": `select-${proxy.id}`, onchange: ({ target }) => act.choose(target.checked),
  });
  return el("tr", { "data-name": proxy.name },
    cell(tick),
    cell(two(el("strong", {}, proxy.name), labels(proxy, own)), note(inWords(proxy, "problem"), "bad")),
    cell(two(el("code", { className: "endpoint" }, split(endpoint(proxy))), proxy.username && t("asUser", { name: proxy.username }))),
    cell(badge(familyText(proxy.family), proxy.family)),
    cell(state(proxy, own, act)), cell(outcome(proxy, isWaiting)), cell(usage(proxy, act.usage)),
    el("td", { className: "actions" },
      rowButton(t("test"), proxy.name, ({ target }) => act.test(target)),
      proxy.now ? rowButton(t("exits"), proxy.name, act.exits) : null,
      own ? [rowButton(t("edit"), proxy.name, act.edit),
        rowButton(t("delete"), proxy.name, act.remove, { className: "small danger" })] : null));
}

// Two lines, each cut where it does not fit; a pointer shows the whole of it.
function two(first, second, kind = "") {
  const line = (content, properties) => {
    const made = el("div", properties, content);
    if (content) made.title = made.textContent;
    return made;
  };
  return el("div", { className: "two" }, line(first), line(second, { className: `note ${kind}` }));
}

const labels = (proxy, own) =>
  [own ? "" : t("fromFile"), proxy.region, ...proxy.tags.map((tag) => `#${tag}`)].filter(Boolean).join(" · ");

export function endpoint(proxy) {
  return `${proxy.type}://${proxy.host.includes(":") ? `[${proxy.host}]` : proxy.host}:${proxy.port ?? ""}`;
}

// Where there is no room for all of it, the port is shown.
function split(text) {
  const at = text.lastIndexOf(":");
  return [el("span", {}, text.slice(0, at)), el("span", {}, text.slice(at))];
}

// The person's word, and beneath it the machine's.
function state(proxy, own, act) {
  if (proxy.problem) return badge(t("unusable"), "bad");
  const on = proxy.status === "active";
  const said = badge(t(on ? "active" : "inactive"), on ? "good" : "warn");
  const again = on && proxy.now ? resetButton(proxy.now, proxy.name, act.refresh) : null;
  const control = own ? el("label", { className: "switch" }, el("input", {
    type: "checkbox", role: "switch", checked: on,
    "aria-label": t("switchOf", { name: proxy.name }), "data-key": `switch-${proxy.id}`,
    onchange: ({ target }) => act.setStatus(target.checked ? "active" : "inactive"),
  }), again ? null : said) : said;
  return two(again ? [control, " ", again] : control, on && proxy.now ? fares(proxy.now, proxy.status) : "");
}

// -- the last test

function outcome(proxy, isWaiting) {
  const result = proxy.last_test;
  if (isWaiting) return wide(badge(t("testWaiting")), "");
  if (!result) return wide(note(t("never")), "");
  const kind = result.ok ? "good" : "bad";
  const text = result.ok ? milliseconds(result.total_ms) : t("failed");
  const more = button(text, () => showTest(proxy.name, result), {
    className: `link badge ${kind}`, "aria-label": t("testOf", { name: proxy.name, result: text }), "data-key": `result-${proxy.id}`,
  });
  if (result.ok) return wide([more, el("code", {}, result.egress_ip ?? "")], dotted([momentOf(result.at), times(result)]));
  const itself = sentence({ code: "of_proxy", text: `Proxy ${proxy.name}: `, params: { name: proxy.name, what: "" } });
  return wide([more, reasonOf(result)], dotted([momentOf(result.at), inWords(result, "detail").replace(itself, "")]), "bad");
}

// As wide before a test as behind it.
function wide(...lines) {
  const made = two(...lines);
  made.classList.add("outcome-lines");
  return made;
}

// The detail says it where there is no label for it.
function reasonOf({ reason }) {
  const label = word("reason", reason);
  return label === reason ? "" : label;
}

const dotted = (parts) => parts.filter(Boolean).join(" · ");

const times = (result) => [["timeDns", result.dns_ms], ["timeConnect", result.connect_ms],
  ["timeHandshake", result.handshake_ms], ["timeFirstByte", result.first_byte_ms]]
  .filter(([, value]) => value !== null).map(([key, value]) => `${t(key)} ${milliseconds(value)}`).join(" · ");

function showTest(name, result) {
  const facts = [
    ["result", badge(t(result.ok ? "good" : "failed"), result.ok ? "good" : "bad")],
    ["why", reasonOf(result)], ["details", inWords(result, "detail")],
    ["testTarget", result.target], ["address", result.address], ["exit", result.egress_ip],
    ["times", times(result)], ["time", dateOf(result.at)],
  ].filter(([, value]) => value);
  openDialog(t("lastTestOf", { name }), [
    el("dl", { className: "facts" }, facts.flatMap(([key, value]) => [el("dt", {}, t(key)), el("dd", {}, value)])),
    mayBlameTarget(result) ? note(t("targetToBlame", { target: result.target }), "warn") : null]);
}

function usage(proxy, show) {
  if (!proxy.used_by) return "0";
  return button(shown(proxy.used_by), show,
    { className: "link", "aria-label": t("usageOf", { name: proxy.name }), "data-key": `usage-${proxy.id}` });
}
