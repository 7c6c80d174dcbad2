// The Pools tab: interchangeable proxies, and how one of them is picked.
import { get, patch, pathOf, post, remove } from "../api.js";
import { confirm, openDialog } from "../dialog.js";
import { badge, button, cell, el, field, note, refill, rowButton, select, table, tell } from "../dom.js";
import { joined, shown, t, word } from "../i18n.js";
import { Listing } from "../listing.js";
import { picker } from "../picker.js";

const SHOWN = 12;
const STRATEGIES = ["first", "round-robin", "random", "sticky", "latency"];
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
  return `${word("strategy", "sticky")}: ${word("sticky", pool.sticky_by)}, ${t("minutes", { count: pool.sticky_minutes })}`;
}

function row(pool) {
  const own = pool.source === "registry";
  const more = pool.members.length - SHOWN;
  return el("tr", { "data-name": pool.name },
    cell(el("strong", {}, pool.name), own ? null : note(t("fromFile")), note(pool.problem, "bad")),
    cell(strategyText(pool)),
    cell(pool.members.length ? pool.members.slice(0, SHOWN).flatMap((name) => [badge(name), " "]) : badge(t("emptyPool"), "bad"),
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
  const name = el("input", { name: "name", value: pool?.name ?? "", required: true, maxLength: 120, autocomplete: "off" });
  const strategy = select(STRATEGIES.map((one) => [one, word("strategy", one)]), pool?.strategy ?? "round-robin", { name: "strategy" });
  const by = select(["client", "host", "account"].map((one) => [one, word("sticky", one)]), pool?.sticky_by ?? "client", { name: "sticky_by" });
  const minutes = el("input", { name: "sticky_minutes", type: "number", min: 1, max: 1440, value: pool?.sticky_minutes ?? 30 });
  const members = el("textarea", { name: "members", rows: 6, value: (pool?.members ?? []).join("\n"), spellcheck: false });
  const known = picker("", { "aria-label": t("addMember"), placeholder: t("addMember") });
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
      const stated = { name: name.value, strategy: strategy.value, sticky_by: by.value, sticky_minutes: Number(minutes.value), members: lines(members) };
      if (pool) await patch("/pools", { id: pool.id, ...stated }, pool.etag);
      else await post("/pools", stated);
      await list.refresh();
    },
  });
}

async function deletePool(pool) {
  const { rules } = await get(`${pathOf("pools", pool.id)}&where_used=1`);
  const warnings = rules.length ? [t("inUse", { users: joined(rules.map((one) => one.name)) }), t("forcedHint")] : [];
  confirm(t("confirmDelete", { name: pool.name }), warnings, t(rules.length ? "deleteForced" : "delete"), async () => {
    await remove(pathOf("pools", pool.id) + (rules.length ? "&force=1" : ""));
    await list.refresh();
  });
}
