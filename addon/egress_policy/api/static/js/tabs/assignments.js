// Assignments: which proxy a scope leaves by. They stand in the list of rules.
import { get, put } from "../api.js";
import { confirm, openDialog } from "../dialog.js";
import { el, field, input, note, select, tell } from "../dom.js";
import { t } from "../i18n.js";
import { picker } from "../picker.js";

const EXAMPLES = { host: "*.example.org", client: "192.0.2.0/24", user: "alice", filter: "~m POST & ~u /upload" };
const SCOPES = ["global", "host", "client", "user", "filter"];

// Scope and id of an assignment of the list of rules, whose label they are.
function scopeOf({ label }) {
  const [, scope, scopeId] = label.match(/^([a-z]+):?(.*)$/s);
  return { scope, scopeId: scope === "global" ? null : scopeId };
}

export function assignmentName(rule) {
  const { scope, scopeId } = scopeOf(rule);
  return [t(`scope_${scope}`), scopeId].filter(Boolean).join(" ");
}

export function clearAssignment(rule, done) {
  confirm(t("confirmClear", { name: assignmentName(rule) }), [], t("clear"), async () => {
    await put("/proxies/assignments", { ...scopeOf(rule), proxyId: null });
    await done();
  });
}

export async function editAssignment(rule, done) {
  try {
    const { scope, scopeId } = scopeOf(rule);
    const query = new URLSearchParams({ scope, ...(scopeId && { scopeId }) });
    const { items } = await get(`/proxies/assignments?${query}`);
    open(items.find(({ id }) => id === rule.id) ?? { scope, scopeId }, done);
  } catch (error) {
    tell(error);
  }
}

export const addAssignment = (done) => open(null, done);

// Another proxy for a scope that has one, or a scope of its own.
function open(there, done) {
  const disabled = Boolean(there);
  const scope = select(SCOPES.map((one) => [one, t(`scope_${one}`)]), there?.scope ?? "host", { name: "scope", disabled });
  const id = input("scopeId", there?.scope === "global" ? "" : there?.scopeId, { disabled });
  const group = input("group", there?.group, { maxLength: 120 });
  const proxy = picker("proxyId", there?.proxy, { query: { source: "registry" } });
  const scopeId = field(t("scopeId"), id);
  const fit = () => {
    scopeId.hidden = scope.value === "global";
    id.placeholder = EXAMPLES[scope.value] ?? "";
  };
  scope.addEventListener("input", fit);
  fit();
  openDialog(t("assignTitle"), el("div", { className: "form" }, note(t("assignmentsHint"), "wide"),
    field(t("scope"), scope), scopeId,
    field(t("proxy"), proxy.input, t("pickHint"), { className: "field wide" }), proxy.list,
    field(t("group"), group, t("groupHint"), { className: "field wide" })), {
    verb: t("assign"),
    async act() {
      await put("/proxies/assignments", {
        scope: scope.value, scopeId: scope.value === "global" ? null : id.value,
        proxyId: proxy.input.value.trim(), group: group.value.trim(),
      });
      await done();
    },
  });
}
