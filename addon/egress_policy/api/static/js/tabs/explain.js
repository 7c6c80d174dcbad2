// Which rule would decide for a request, and why. Nothing is sent.
import { post } from "../api.js";
import { badge, cell, el, field, note, table } from "../dom.js";
import { familyText } from "../family.js";
import { t, word } from "../i18n.js";
import { endpoint } from "./proxies.js";

const SHOWN = 50;
const KINDS = { matched: "good", "not matched": "", "needs the request": "warn" };

export function explainBox() {
  const url = el("input", { name: "url", type: "url", placeholder: "https://www.example.org/", id: "explain-url", autocomplete: "off" });
  const method = el("input", { name: "method", value: "GET", size: 6, autocomplete: "off", spellcheck: false });
  const client = el("input", { name: "client", value: "127.0.0.1", size: 14, autocomplete: "off", spellcheck: false });
  const headers = el("textarea", { name: "headers", rows: 2, placeholder: "Accept: text/html", spellcheck: false });
  const answer = el("div", { "aria-live": "polite", id: "explanation" });
  return el("section", { className: "panel" }, el("h2", {}, t("explain")), note(t("explainHint")), el("form", {
    noValidate: true,
    async onsubmit(event) {
      event.preventDefault();
      const asked = { url: url.value.trim(), method: method.value.trim(), client: client.value.trim(), headers: pairs(headers.value) };
      try {
        answer.replaceChildren(...explained(await post("/explain", asked)));
      } catch (error) {
        answer.replaceChildren(note(error.message, "bad"));
      }
    },
  }, el("div", { className: "tools" }, field(t("url"), url, "", { className: "field grow" }), field(t("method"), method), field(t("client"), client),
    el("button", { type: "submit" }, t("explainVerb"))),
  el("details", {}, el("summary", {}, t("headers")), field(t("headersHint"), headers))), answer);
}

function pairs(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  return Object.fromEntries(lines.map((line) => {
    const at = line.indexOf(":");
    return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  }));
}

function explained(found) {
  const tried = found.rules.filter((one) => one.verdict !== "not reached");
  const rows = tried.slice(-SHOWN).map((one) => el("tr", {},
    cell(one.rule), cell(badge(word("verdict", one.verdict), KINDS[one.verdict])), cell(one.why)));
  return [verdict(found), tried.length > SHOWN ? note(t("moreRules", { count: tried.length - SHOWN })) : "",
    table(t("explain"), [t("rule"), t("verdict"), t("why")], rows)].filter(Boolean);
}

function verdict(found) {
  if (found.outcome === "refuse") {
    return el("p", { className: "outcome bad" }, el("strong", {}, `${t("refused")}: ${word("reason", found.reason)}`), ` ${found.code} ${found.reason}. ${found.detail}`);
  }
  const ways = found.egresses.flatMap((one) => [el("code", {}, one.type === "direct" ? t("use_direct") : `${one.name} (${endpoint(one)})`), badge(familyText(one.family), one.family)]);
  return el("p", { className: "outcome good" }, el("strong", {}, [found.rule, found.pool].filter(Boolean).join(" → ")), " → ", ways.length ? ways : found.why);
}
