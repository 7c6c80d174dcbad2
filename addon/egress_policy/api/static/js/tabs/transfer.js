// Import with a preview, and export.
import { get, post } from "../api.js";
import { openDialog } from "../dialog.js";
import { badge, button, cell, el, field, note, notify, select, table, textarea } from "../dom.js";
import { t, word } from "../i18n.js";

const EXAMPLE = "socks5://user:pass@proxy.example.com:1080?family=ipv6";
const SHOWN = 200;
const KINDS = { created: "good", skipped: "warn", failed: "bad" };

// What is imported is what was previewed: a change of the text asks for another preview.
export function importList(done) {
  const lines = textarea("text", "", { rows: 8, id: "import-lines", placeholder: EXAMPLE });
  const file = el("input", { type: "file", accept: ".txt,.csv,text/plain", hidden: true });
  const results = el("div", { "aria-live": "polite", id: "import-results" });
  const failed = (error) => results.replaceChildren(note(error.message, "bad"));
  const preview = button(t("preview"), () => tried().catch(failed));
  let send;
  const changed = () => {
    send.disabled = true;
    results.replaceChildren();
  };
  const tried = async () => {
    const text = lines.value;
    const report = await post("/proxies/import", { text, dry_run: true });
    results.replaceChildren(...told(report));
    send.disabled = !report.created || text !== lines.value;
  };
  lines.addEventListener("input", changed);
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    lines.value = await file.files[0].text();
    changed();
    await tried().catch(failed);
  });
  const dialog = openDialog(t("importTitle"), [
    field(t("importLines"), lines, t("importHint")), file,
    el("div", { className: "end" }, button(t("importFile"), () => file.click()), preview), results], {
    verb: t("import"),
    async act() {
      const report = await post("/proxies/import", { text: lines.value });
      notify(t("importCounts", report), report.failed ? "warn" : "good");
      await done();
    },
  });
  dialog.classList.add("wide");
  send = dialog.querySelector("[type=submit]");
  send.disabled = true;
}

// What is wrong first; of thousands of lines not all.
function told(report) {
  const rank = { failed: 0, skipped: 1, created: 2 };
  const found = report.results.toSorted((a, b) => rank[a.outcome] - rank[b.outcome] || a.line - b.line);
  const rows = found.slice(0, SHOWN).map((one) => el("tr", {},
    cell(String(one.line)), cell(badge(word("import", one.outcome), KINDS[one.outcome])),
    cell(one.name), cell(one.message)));
  return [el("p", {}, el("strong", {}, t("importCounts", report))),
    table(t("preview"), [t("line"), t("result"), t("labelName"), t("why")], rows),
    found.length > SHOWN ? note(t("moreLines", { count: found.length - SHOWN })) : ""];
}

export function exportList() {
  const format = select([["text", t("formatText")], ["csv", "CSV"], ["json", "JSON"]], "text");
  const secrets = el("input", { type: "checkbox" });
  openDialog(t("exportTitle"), el("div", { className: "form" }, field(t("format"), format),
    el("label", { className: "check" }, secrets, t("withSecrets"))), {
    verb: t("export"),
    async act() {
      const text = await get(`/proxies/export?format=${format.value}${secrets.checked ? "&secrets=1" : ""}`);
      save(text, `proxies.${format.value === "text" ? "txt" : format.value}`);
    },
  });
}

function save(text, name) {
  const href = URL.createObjectURL(new Blob([text]));
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
