// Assignments: which proxy a scope leaves by.
import { put } from "../api.js";
import { confirm, openDialog } from "../dialog.js";
import { badge, button, cell, el, field, input, note, refill, rowButton, select, table } from "../dom.js";
import { inWords, t } from "../i18n.js";
import { Listing } from "../listing.js";
import { picker } from "../picker.js";

const EXAMPLES = { host: "*.example.org", client: "192.0.2.0/24", user: "alice", filter: "~m POST & ~u /upload" };

export function assignments() {
  const place = el("div");
  const list = new Listing("/proxies/assignments", draw);
  function draw() {
    refill(place, table(t("assignments"), [t("scope"), t("scopeId"), t("proxy"), t("group"), t("actions")],
      list.items.map((one) => row(one, list)), t("noAssignments")), list.pager());
  }
  const element = el("section", {}, el("div", { className: "head" }, el("h2", {}, t("assignments")),
    button(t("assign"), () => assign(list))), note(t("assignmentsHint")), place);
  return { element, load: () => list.load() };
}

const idOf = (one) => (one.scope === "global" ? "" : one.scopeId);

function row(one, list) {
  const name = `${t(`scope_${one.scope}`)} ${idOf(one)}`.trim();
  return el("tr", {}, cell(t(`scope_${one.scope}`)), cell(idOf(one) ? el("code", {}, idOf(one)) : ""),
    cell(badge(one.proxy), note(inWords(one, "problem"), "bad")), cell(one.group),
    el("td", { className: "actions" },
      rowButton(t("edit"), name, () => assign(list, one)),
      rowButton(t("clear"), name, () => clear(list, one, name), { className: "small danger" })));
}

function clear(list, one, name) {
  confirm(t("confirmClear", { name }), [], t("clear"), () => set(list, one, null));
}

async function set(list, { scope, scopeId, group }, proxyId) {
  await put("/proxies/assignments", { scope, scopeId, proxyId, group });
  await list.refresh();
}

// Another proxy for a scope that has one, or a scope of its own.
function assign(list, there) {
  const scopes = ["global", "host", "client", "user", "filter"];
  const disabled = Boolean(there);
  const scope = select(scopes.map((one) => [one, t(`scope_${one}`)]), there?.scope ?? "host", { name: "scope", disabled });
  const id = input("scopeId", there && idOf(there), { disabled });
  const group = input("group", there?.group, { maxLength: 120 });
  const proxy = picker("proxyId", there?.proxy, { query: { source: "registry" } });
  const scopeId = field(t("scopeId"), id);
  const fit = () => {
    scopeId.hidden = scope.value === "global";
    id.placeholder = EXAMPLES[scope.value] ?? "";
  };
  scope.addEventListener("input", fit);
  fit();
  openDialog(t("assignTitle"), el("div", { className: "form" }, field(t("scope"), scope), scopeId,
    field(t("proxy"), proxy.input, t("pickHint"), { className: "field wide" }), proxy.list,
    field(t("group"), group, t("groupHint"), { className: "field wide" })), {
    verb: t("assign"),
    act() {
      const fields = { scope: scope.value, scopeId: scope.value === "global" ? null : id.value, group: group.value.trim() };
      return set(list, fields, proxy.input.value.trim());
    },
  });
}
