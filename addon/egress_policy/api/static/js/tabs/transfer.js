// Import with a preview, and export.
import { get, post } from "../api.js";
import { openDialog } from "../dialog.js";
import { badge, button, cell, el, field, note, notify, select, settled, table, textarea } from "../dom.js";
import { inWords, joined, t, word } from "../i18n.js";

const EXAMPLE = "socks5://user:pass@proxy.example.com:1080?family=ipv6";
const SHOWN = 200;
const PAUSE = 500;
const KINDS = { created: "good", updated: "good", skipped: "warn", differs: "warn", failed: "bad" };
const TYPES = ["socks5", "http", "https"];

// What is imported is what was previewed: a change of anything asks for another preview.
export function importList(done) {
  let text = ""; // of a file as it is: a text area changes its line ends
  const lines = textarea("text", "", { rows: 8, id: "import-lines", placeholder: EXAMPLE });
  const file = el("input", { type: "file", accept: ".txt,.csv,.json,.yaml,.yml,text/plain", hidden: true });
  const type = select([["", t("importTypeDefault")], ...TYPES.map((one) => [one, one])], "");
  const update = el("input", { type: "checkbox" });
  const results = el("div", { "aria-live": "polite", id: "import-results" });
  const failed = (error) => results.replaceChildren(note(error.message, "bad"));
  const preview = button(t("preview"), () => tried().catch(failed));
  const asked = () => ({ text, update: update.checked, type: type.value || null });
  let send;
  const changed = () => {
    send.disabled = true;
    results.replaceChildren();
  };
  const tried = async () => {
    const body = asked();
    const report = await post("/proxies/import", { ...body, dry_run: true });
    results.replaceChildren(...told(report));
    send.disabled = !(report.created || report.updated) || JSON.stringify(body) !== JSON.stringify(asked());
  };
  // What is pasted or typed is previewed by itself.
  const soon = settled(() => lines.isConnected && text.trim() && send.disabled && tried().catch(failed), PAUSE);
  lines.addEventListener("input", () => {
    text = lines.value;
    changed();
    soon();
  });
  for (const control of [type, update]) control.addEventListener("change", changed);
  const read = async () => {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.files[0].arrayBuffer());
    lines.value = text;
    changed();
    await tried();
  };
  file.addEventListener("change", () => file.files.length && read().catch(failed));
  const dialog = openDialog(t("importTitle"), [
    field(t("importLines"), lines, t("importHint")), file,
    field(t("importType"), type), el("label", { className: "check" }, update, t("importUpdate")),
    el("div", { className: "end" }, button(t("importFile"), () => file.click()), preview), results], {
    verb: t("import"),
    async act() {
      const report = await post("/proxies/import", asked());
      notify(counts(report), report.failed || report.differs ? "warn" : "good");
      await done();
    },
  });
  dialog.classList.add("wide");
  send = dialog.querySelector("[type=submit]");
  send.disabled = true;
}

function counts(report) {
  const also = [report.updated && t("importUpdated", report), report.differs && t("importDiffers", report)];
  return joined([t("importCounts", report), ...also.filter(Boolean)]);
}

// What is wrong first, and what is said of many lines once; of thousands of lines not all.
function told(report) {
  const rank = { failed: 0, differs: 1, skipped: 2, updated: 3, created: 4 };
  const groups = new Map();
  for (const one of report.results) {
    const key = one.message ? `${one.outcome} ${one.type} ${one.assumes_type} ${one.message}` : one.line;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(one);
  }
  const found = [...groups.values()].toSorted(
    ([a], [b]) => rank[a.outcome] - rank[b.outcome] || a.line - b.line);
  const rows = found.slice(0, SHOWN).map(([one, ...more]) => el("tr", {},
    cell(String(one.line), more.length ? el("div", { className: "note" }, t("moreLines", { count: more.length })) : ""),
    cell(badge(word("import", one.outcome), KINDS[one.outcome])), cell(more.length ? "" : one.name),
    cell(one.assumes_type && one.type ? t("typeAssumed", one) : one.type), cell(inWords(one, "message"))));
  const left = found.slice(SHOWN).reduce((sum, group) => sum + group.length, 0);
  return [el("p", {}, el("strong", {}, counts(report))),
    table(t("preview"), [t("line"), t("result"), t("labelName"), t("labelType"), t("why")], rows),
    left ? note(t("moreLines", { count: left })) : ""];
}

export function exportList() {
  const format = select([["text", t("formatText")], ["csv", "CSV"], ["json", "JSON"], ["clash", "Clash YAML"]], "text");
  const secrets = el("input", { type: "checkbox" });
  openDialog(t("exportTitle"), el("div", { className: "form" }, field(t("format"), format),
    el("label", { className: "check" }, secrets, t("withSecrets"))), {
    verb: t("export"),
    async act() {
      const text = await get(`/proxies/export?format=${format.value}${secrets.checked ? "&secrets=1" : ""}`);
      save(text, `proxies.${{ text: "txt", clash: "yaml" }[format.value] ?? format.value}`);
    },
  });
}

function save(text, name) {
  const href = URL.createObjectURL(new Blob([text]));
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
