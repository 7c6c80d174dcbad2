// Import with a preview, and export.
import { get, post } from "../api.js";
import { openDialog } from "../dialog.js";
import { button, cell, el, field, note, notify, select, table, badge, tell } from "../dom.js";
import { t, word } from "../i18n.js";

const SHOWN = 200;
const KINDS = { created: "good", skipped: "warn", failed: "bad" };

// What is imported is what was previewed: a change of the text asks for another preview.
export function importList(done) {
  const lines = el("textarea", { name: "text", rows: 8, id: "import-lines", spellcheck: false, placeholder: "socks5://user:pass@proxy.example.com:1080?family=ipv6" });
  const file = el("input", { type: "file", accept: ".txt,.csv,text/plain", hidden: true });
  const results = el("div", { "aria-live": "polite", id: "import-results" });
  const preview = button(t("preview"), () => tried().catch((error) => results.replaceChildren(note(error.message, "bad"))));
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
    await tried().catch(tell);
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
  const order = ["failed", "skipped", "created"];
  const found = report.results.toSorted((a, b) => order.indexOf(a.outcome) - order.indexOf(b.outcome) || a.line - b.line);
  const rows = found.slice(0, SHOWN).map((one) => el("tr", {},
    cell(String(one.line)), cell(badge(word("import", one.outcome), KINDS[one.outcome])), cell(one.name), cell(one.message)));
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
