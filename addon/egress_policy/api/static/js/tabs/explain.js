// Which rule would decide for a request, and why. Nothing is sent.
import { post } from "../api.js";
import { badge, cell, el, field, input, note, table, textarea } from "../dom.js";
import { familyText } from "../family.js";
import { stateWord } from "../fares.js";
import { inWords, t, word } from "../i18n.js";
import { endpoint } from "./proxy_row.js";

const SHOWN = 50;
export const VERDICTS = { matched: "good", "not matched": "", "needs the request": "warn" };

export function explainBox() {
  const url = input("url", "", { type: "url", placeholder: "https://www.example.org/" });
  const method = input("method", "GET", { size: 6 });
  const client = input("client", "127.0.0.1", { size: 14 });
  const headers = textarea("headers", "", { rows: 2, placeholder: "Accept: text/html" });
  const answer = el("div", { "aria-live": "polite", id: "explanation" });
  async function onsubmit(event) {
    event.preventDefault();
    const texts = { url: url.value.trim(), method: method.value.trim(), client: client.value.trim() };
    try {
      answer.replaceChildren(...explained(await post("/explain", { ...texts, headers: pairs(headers.value) })));
    } catch (error) {
      answer.replaceChildren(note(error.message, "bad"));
    }
  }
  const form = el("form", { noValidate: true, onsubmit },
    el("div", { className: "tools" },
      field(t("url"), url, "", { className: "field grow" }), field(t("method"), method), field(t("client"), client),
      el("button", { type: "submit" }, t("explainVerb"))),
    el("details", {}, el("summary", {}, t("headers")), field(t("headersHint"), headers)));
  return el("section", { className: "panel" }, el("h2", {}, t("explain")), note(t("explainHint")), form, answer);
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
    cell(one.rule), cell(badge(word("verdict", one.verdict), VERDICTS[one.verdict])), cell(inWords(one, "why"))));
  const more = found.rules_before + Math.max(0, tried.length - SHOWN);
  return [verdict(found), more ? note(t("moreRules", { count: more })) : "",
    table(t("explain"), [t("rule"), t("verdict"), t("why")], rows)].filter(Boolean);
}

// What would decide, and what would be taken.
export function verdict(found) {
  if (found.outcome === "refuse") {
    const why = `${t("refused")}: ${word("reason", found.reason)}`;
    return el("p", { className: "outcome bad" }, el("strong", {}, why), ` ${found.code} ${found.reason}. ${inWords(found, "detail")}`);
  }
  const by = [found.rule, found.pool].filter(Boolean).join(" → ");
  const ways = found.egresses.map((one) => [el("code", {}, egressText(one)),
    badge(familyText(one.family), one.family), one.now && one.now.state !== "closed" ? stateWord(one.now.state) : null]);
  const left = found.left_out.map((one) => note(`${one.proxy}: ${inWords(one, "why")}`));
  const kind = !ways.length || found.egresses.some(isUsable) ? "good" : "warn";
  return el("div", { className: `outcome ${kind}` }, el("strong", {}, by), " → ", ways.length ? ways : inWords(found, "why"), left);
}

// Whether a flow would be let through to it now.
const isUsable = ({ now }) => !now || now.state === "closed" || now.state === "half_open";

function egressText(one) {
  return one.type === "direct" ? t("use_direct") : `${one.name} (${endpoint(one)})`;
}
