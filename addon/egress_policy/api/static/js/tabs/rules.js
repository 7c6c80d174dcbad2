// The Rules tab: explain, rules in their order, assignments.
import { get, patch, pathOf, remove } from "../api.js";
import { confirm } from "../dialog.js";
import { badge, button, cell, el, note, refill, rowButton, table, tell } from "../dom.js";
import { familyText } from "../family.js";
import { t } from "../i18n.js";
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
  refill(place, table(t("tab_rules"), ["#", t("rule"), t("conditions"), t("use"), t("actions")], list.items.map(row), t("noRules")), list.pager());
}

function conditions(rule) {
  const found = [...rule.hosts, ...rule.clients, ...rule.ports.map((port) => `:${port}`), rule.filter].filter(Boolean);
  return found.length ? found.flatMap((one) => [el("code", {}, one), " "]) : t("everything");
}

export function useBadge(use) {
  return badge(use === "direct" || use === "refuse" ? t(`use_${use}`) : use, use === "refuse" ? "bad" : "");
}

function row(rule, index) {
  const own = rule.source === "registry";
  const use = typeof rule.use === "string" ? rule.use : rule.use.name;
  const pin = rule.family ?? rule.use.family;
  const place = list.offset + index;
  const first = own && rule.number === 1;
  const last = place === list.total - 1;
  const line = el("tr", own ? { draggable: true, "data-id": rule.id, ...dragging(rule) } : {},
    cell(own ? el("span", { className: "grip", title: t("drag") }, String(rule.number)) : String(rule.number)),
    cell(el("strong", {}, rule.label), own ? null : note(t("fromFile"))),
    cell(conditions(rule)),
    cell(useBadge(use), pin ? badge(familyText(pin), pin) : null, rule.target_family ? note(`${t("targetFamily")}: ${familyText(rule.target_family)}`) : null,
      note(rule.problem || rule.refuses, "bad")),
    el("td", { className: "actions" }, own ? [
      button("↑", () => step(rule, place - 1), { className: "small", disabled: first, "aria-label": t("moveUp", { name: rule.label }), title: t("moveUp", { name: rule.label }), "data-key": `up-${rule.id}` }),
      button("↓", () => step(rule, place + 2), { className: "small", disabled: last, "aria-label": t("moveDown", { name: rule.label }), title: t("moveDown", { name: rule.label }), "data-key": `down-${rule.id}` }),
      rowButton(t("edit"), rule.label, () => editRule(rule.id, refresh)),
      rowButton(t("delete"), rule.label, () => confirmDelete(rule), { className: "small danger" })] : null));
  return line;
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
