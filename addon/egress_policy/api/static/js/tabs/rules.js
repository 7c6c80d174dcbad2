// The Rules tab: what decides for a flow, as one list in the order in which it is asked, wherever it is
// written, with what each has decided. What the registry has is changed here.
import { get, patch, pathOf, remove } from "../api.js";
import { confirm } from "../dialog.js";
import { badge, button, cell, el, field, note, nothing, refill, rowButton, settled, table, tell } from "../dom.js";
import { familyText } from "../family.js";
import { inWords, joined, momentOf, shown, t, word } from "../i18n.js";
import { Listing } from "../listing.js";
import { addAssignment, assignmentName, clearAssignment, editAssignment } from "./assignments.js";
import { editDefault } from "./default_form.js";
import { explainBox } from "./explain.js";
import { editRule } from "./rule_form.js";

const ORDER = "/rules/order";
const GLOBAL = "global:__global__";
const NAMED = 3;
let list;
let view;

export async function enter(main) {
  const status = await get("/status");
  list = new Listing(ORDER, draw, { query: { q: "" } });
  const number = el("th", { scope: "col", className: "number" }, t("hits"));
  const heads = ["#", t("rule"), t("conditions"), t("use"), number, t("actions")];
  view = { status, empty: el("div"), table: table(t("tab_rules"), heads, [], t("nothingFound")), pager: el("div") };
  const search = el("input", { type: "search" });
  search.addEventListener("input", settled(() => list.ask({ q: search.value })));
  await list.load(); // before it is shown: a table that is empty meanwhile would say that nothing was found
  refill(main, explainBox(),
    el("section", {}, el("div", { className: "head" }, el("h2", {}, t("tab_rules")),
      el("div", { className: "tools" }, field(t("search"), search),
        button(t("assign"), () => addAssignment(refresh)),
        button(t("addRule"), () => editRule(null, refresh), { className: "primary", id: "add-rule" }))),
    note(t("rulesHint")), view.empty, view.table, view.pager));
}

const refresh = () => list.refresh();

// What rules have decided changes by itself; a rule that is dragged is not drawn anew.
export function update(found) {
  if (!view?.table.isConnected) return;
  view.status = found;
  if (!view.table.querySelector(".dragged")) list.poll(view.table, () => state() !== view.drawn && draw()).catch(tell);
}

const state = () => JSON.stringify([list.items, list.total, view.status.default_from]);

function draw() {
  view.drawn = state();
  const isEmpty = list.total === 1 && !list.query.q && !view.status.problem;
  refill(view.empty, isEmpty ? nothing(t("noRules"), t("noRulesHint"), button(t("addFirstRule"), () => editRule(null, refresh))) : null);
  view.table.fill(list.items.map(row));
  refill(view.pager, list.pager());
}

function conditions(rule) {
  const ports = rule.ports.map((port) => `:${port}`);
  const found = [...rule.hosts, ...rule.clients, ...ports, rule.filter].filter(Boolean);
  return found.length ? found.flatMap((one) => [el("code", {}, one), " "]) : t("everything");
}

function useBadge(use) {
  return badge(use === "direct" || use === "refuse" ? t(`use_${use}`) : use, use === "refuse" ? "bad" : "");
}

const isAssigned = ({ origin }) => origin === "assignment" || origin === "global";
const isMovable = (rule) => rule?.origin === "registry";

function nameOf(rule) {
  if (rule.origin === "default") return t("defaultAction");
  return isAssigned(rule) ? assignmentName(rule) : rule.label;
}

const originOf = ({ origin }) =>
  (origin === "default" ? word("from", view.status.default_from) : word("origin", origin));

function row(rule) {
  const target = rule.target_family && `${t("targetFamily")}: ${familyText(rule.target_family)}`;
  const number = String(rule.number);
  return el("tr", isMovable(rule) ? { draggable: true, ...dragging(rule) } : {},
    cell(isMovable(rule) ? el("span", { className: "grip", title: t("drag") }, number) : number),
    cell(el("strong", {}, nameOf(rule)), note(originOf(rule)), never(rule)),
    cell(conditions(rule)),
    cell(useBadge(rule.use), rule.family ? badge(familyText(rule.family), rule.family) : null, note(target),
      note(rule.group && `${t("group")}: ${rule.group}`),
      note(inWords(rule, rule.problem ? "problem" : "refuses"), "bad")),
    el("td", { className: "number" }, hits(rule)),
    el("td", { className: "actions" }, actions(rule)));
}

function never({ never: why, never_by: rules }) {
  const named = joined(rules.slice(0, NAMED).map((label) => (label === GLOBAL ? t("scope_global") : label))) + (rules.length > NAMED ? " …" : "");
  return why ? [badge(t("neverMatches"), "warn"), note(t("neverBecause", { rules: named }))] : null;
}

function hits({ hits: count, last_hit: at }) {
  if (count === null) return "–";
  return [shown(count), at ? el("p", { className: "note" }, el("time", { dateTime: at }, momentOf(at))) : null];
}

function actions(rule) {
  const name = nameOf(rule);
  const edit = (act) => rowButton(t("edit"), name, act);
  if (rule.origin === "default") {
    const isOwn = view.status.registry && view.status.default_from !== "policy file";
    return isOwn ? edit(() => editDefault(refresh)) : null;
  }
  if (isAssigned(rule)) {
    return [edit(() => editAssignment(rule, refresh)),
      rowButton(t("clear"), name, () => clearAssignment(rule, refresh), { className: "small danger" })];
  }
  if (!isMovable(rule)) return null;
  const arrow = (sign, key, by) => {
    const label = t(key, { name });
    const properties = { className: "small", "aria-label": label, title: label, "data-key": `${key}-${rule.id}` };
    const beside = list.items.find(({ number }) => number === rule.number + by);
    const disabled = rule.number + by < 1 || (beside && !isMovable(beside));
    return button(sign, () => step(rule, by).catch(tell), { ...properties, disabled });
  };
  return [
    arrow("↑", "moveUp", -1),
    arrow("↓", "moveDown", 1),
    edit(() => editRule(rule.id, refresh)),
    rowButton(t("delete"), name, () => confirmDelete(rule), { className: "small danger" }),
  ];
}

function dragging(rule) {
  const row = (event) => event.currentTarget.classList;
  return {
    ondragstart: (event) => { event.dataTransfer.setData("text/plain", rule.id); row(event).add("dragged"); },
    ondragend: (event) => row(event).remove("dragged"),
    ondragover: (event) => { event.preventDefault(); row(event).add("over"); },
    ondragleave: (event) => row(event).remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      row(event).remove("over");
      move(event.dataTransfer.getData("text/plain"), rule.id);
    },
  };
}

// Over the rule that stands beside it in the whole list now, which may not be shown.
async function step(rule, by) {
  const offset = Math.max(0, rule.number - 1 + Math.min(by, 0));
  const { items } = await get(`${ORDER}?${new URLSearchParams({ limit: by < 0 ? 1 : 3, offset })}`);
  const [over, behind] = by < 0 ? [items[0], items[0]] : [items[1], items[2]];
  if (isMovable(over)) await move(rule.id, isMovable(behind) ? behind.id : null);
}

async function move(id, before) {
  if (id !== before) await patch("/rules", { id, before }).catch(tell);
  await refresh();
}

function confirmDelete(rule) {
  confirm(t("confirmDelete", { name: rule.label }), [], t("delete"), async () => {
    await remove(pathOf("rules", rule.id));
    await refresh();
  });
}
