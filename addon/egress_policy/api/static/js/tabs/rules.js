// The Rules tab: explain, rules in their order, assignments.
import { get, patch, pathOf, remove } from "../api.js";
import { confirm } from "../dialog.js";
import { badge, button, cell, el, note, nothing, refill, rowButton, table, tell } from "../dom.js";
import { familyText } from "../family.js";
import { inWords, t } from "../i18n.js";
import { Listing } from "../listing.js";
import { assignments } from "./assignments.js";
import { explainBox } from "./explain.js";
import { editRule } from "./rule_form.js";

let list;
let place;

export async function enter(main) {
  list = new Listing("/rules", draw);
  place = el("div");
  const assigned = assignments();
  refill(main, explainBox(),
    el("section", {}, el("div", { className: "head" }, el("h2", {}, t("tab_rules")),
      button(t("addRule"), () => editRule(null, refresh), { className: "primary", id: "add-rule" })),
    note(t("rulesHint")), place), assigned.element);
  await Promise.all([list.load(), assigned.load()]);
}

const refresh = () => list.refresh();

function draw() {
  const heads = ["#", t("rule"), t("conditions"), t("use"), t("actions")];
  refill(place, table(t("tab_rules"), heads, list.items.map(row),
    nothing(t("noRules"), t("noRulesHint"), button(t("addFirstRule"), () => editRule(null, refresh)))), list.pager());
}

function conditions(rule) {
  const ports = rule.ports.map((port) => `:${port}`);
  const found = [...rule.hosts, ...rule.clients, ...ports, rule.filter].filter(Boolean);
  return found.length ? found.flatMap((one) => [el("code", {}, one), " "]) : t("everything");
}

function useBadge(use) {
  return badge(use === "direct" || use === "refuse" ? t(`use_${use}`) : use, use === "refuse" ? "bad" : "");
}

function row(rule, index) {
  const own = rule.source === "registry";
  const use = typeof rule.use === "string" ? rule.use : rule.use.name;
  const pin = rule.family ?? rule.use.family;
  const target = rule.target_family && `${t("targetFamily")}: ${familyText(rule.target_family)}`;
  const number = String(rule.number);
  return el("tr", own ? { draggable: true, ...dragging(rule) } : {},
    cell(own ? el("span", { className: "grip", title: t("drag") }, number) : number),
    cell(el("strong", {}, rule.label), own ? null : note(t("fromFile"))),
    cell(conditions(rule)),
    cell(useBadge(use), pin ? badge(familyText(pin), pin) : null, note(target),
      note(inWords(rule, rule.problem ? "problem" : "refuses"), "bad")),
    el("td", { className: "actions" }, own ? actions(rule, list.offset + index) : null));
}

// `place` is that in the whole list.
function actions(rule, place) {
  const arrow = (sign, key, to, disabled) => {
    const label = t(key, { name: rule.label });
    const properties = { className: "small", "aria-label": label, title: label, "data-key": `${key}-${rule.id}` };
    return button(sign, () => step(rule, to), { ...properties, disabled });
  };
  return [
    arrow("↑", "moveUp", place - 1, rule.number === 1),
    arrow("↓", "moveDown", place + 2, place === list.total - 1),
    rowButton(t("edit"), rule.label, () => editRule(rule.id, refresh)),
    rowButton(t("delete"), rule.label, () => confirmDelete(rule), { className: "small danger" }),
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

// Before what is at a place of the whole list now, which may be on another page.
async function step(rule, place) {
  const found = await get(`/rules?limit=1&offset=${place}`).catch(tell);
  if (found) await move(rule.id, found.items[0]?.id ?? null);
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
