// The Pools tab: interchangeable proxies, and how one of them is picked.
import { get, patch, pathOf, post, remove } from "../api.js";
import { confirm, openDialog } from "../dialog.js";
import { badge, button, cell, el, field, input, note, refill, rowButton, select, table, tell, textarea } from "../dom.js";
import { joined, shown, t, word } from "../i18n.js";
import { Listing } from "../listing.js";
import { picker } from "../picker.js";

const SHOWN = 12;
const STRATEGIES = ["first", "round-robin"];
const NEW = { strategy: "round-robin", sticky_by: "client", sticky_minutes: 30, members: [] };
let list;
let place;

export async function enter(main) {
  list = new Listing("/pools", draw);
  place = el("div");
  refill(main, el("div", { className: "head" }, note(t("poolsHint")),
    button(t("addPool"), () => edit(null), { className: "primary", id: "add-pool" })), place);
  await list.load();
}

function draw() {
  refill(place, table(t("tab_pools"), [t("labelName"), t("strategy"), t("members"), t("usedBy"), t("actions")],
    list.items.map(row), t("noPools")), list.pager());
}

function strategyText(pool) {
  if (pool.strategy !== "sticky") return word("strategy", pool.strategy);
  const minutes = t("minutes", { count: pool.sticky_minutes });
  return `${word("strategy", "sticky")}: ${word("sticky", pool.sticky_by)}, ${minutes}`;
}

function row(pool) {
  const own = pool.source === "registry";
  const members = pool.members.slice(0, SHOWN).map((name) => [badge(name), " "]);
  const more = pool.members.length - SHOWN;
  return el("tr", { "data-name": pool.name },
    cell(el("strong", {}, pool.name), own ? null : note(t("fromFile")), note(pool.problem, "bad")),
    cell(strategyText(pool)),
    cell(members.length ? members : badge(t("emptyPool"), "bad"),
      more > 0 ? note(t("moreMembers", { count: more })) : null),
    cell(shown(pool.used_by)),
    el("td", { className: "actions" }, own ? [
      rowButton(t("edit"), pool.name, () => edit(pool.id)),
      rowButton(t("delete"), pool.name, () => deletePool(pool).catch(tell), { className: "small danger" })] : null));
}

async function edit(id) {
  try {
    open(id && (await get(pathOf("pools", id))));
  } catch (error) {
    tell(error);
  }
}

const lines = (control) => control.value.split("\n").map((one) => one.trim()).filter(Boolean);

function open(pool) {
  const at = pool ?? NEW;
  const choice = (name, kind, words) => select(words.map((one) => [one, word(kind, one)]), at[name], { name });
  const name = input("name", at.name, { required: true, maxLength: 120 });
  const strategy = choice("strategy", "strategy", STRATEGIES);
  const by = choice("sticky_by", "sticky", ["client", "host", "account"]);
  const minutes = input("sticky_minutes", at.sticky_minutes, { type: "number", min: 1, max: 1440 });
  const members = textarea("members", at.members.join("\n"), { rows: 6 });
  const known = picker("", "", { "aria-label": t("addMember"), placeholder: t("addMember") });
  const add = button(t("add"), () => {
    if (known.input.value.trim()) members.value = [...lines(members), known.input.value.trim()].join("\n");
    known.input.value = "";
    known.input.focus();
  });
  known.input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    add.click();
  });
  const sticky = [field(t("stickyBy"), by), field(t("stickyMinutes"), minutes)];
  const fit = () => sticky.forEach((one) => { one.hidden = strategy.value !== "sticky"; });
  strategy.addEventListener("input", fit);
  fit();
  openDialog(t(pool ? "editPool" : "addPool"), el("div", { className: "form" },
    field(t("labelName"), name), field(t("strategy"), strategy), sticky,
    field(t("members"), members, t("membersHint"), { className: "field wide" }), known.list,
    el("div", { className: "wide beside" }, known.input, add)), {
    reload: () => edit(pool.id),
    async act() {
      const kept = { sticky_by: by.value, sticky_minutes: Number(minutes.value) };
      const fields = { name: name.value, strategy: strategy.value, ...kept, members: lines(members) };
      if (pool) await patch("/pools", { id: pool.id, ...fields }, pool.etag);
      else await post("/pools", fields);
      await list.refresh();
    },
  });
}

async function deletePool(pool) {
  const { rules } = await get(`${pathOf("pools", pool.id)}&where_used=1`);
  const users = joined(rules.map((one) => one.name));
  const warnings = users ? [t("inUse", { users }), t("forcedHint")] : [];
  confirm(t("confirmDelete", { name: pool.name }), warnings, t(users ? "deleteForced" : "delete"), async () => {
    await remove(pathOf("pools", pool.id) + (users ? "&force=1" : ""));
    await list.refresh();
  });
}
