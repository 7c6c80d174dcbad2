// The Pools tab: interchangeable proxies, and how one of them is picked.
import { get, patch, pathOf, post, remove } from "../api.js";
import { confirm, openDialog } from "../dialog.js";
import { badge, button, cell, el, field, input, note, nothing, refill, rowButton, select, table, tell, textarea } from "../dom.js";
import { inWords, joined, shown, t, word } from "../i18n.js";
import { Listing } from "../listing.js";
import { picker } from "../picker.js";
import { Members } from "./members.js";

const SHOWN = 12;
const STRATEGIES = ["first", "round-robin", "random", "least-connections", "latency", "sticky"];
const NEW = { strategy: "round-robin", sticky_by: "client", sticky_minutes: 30, failover: 1, members: [] };
const HEADER = "header:";
const WEIGHTED = /^(.+)=(\d{1,9})$/;
let list;
let place;
let page;
let members = null;

export async function enter(main) {
  page = main;
  members = null;
  list = new Listing("/pools", draw);
  place = el("div");
  refill(main, el("div", { className: "head" }, note(t("poolsHint")),
    button(t("addPool"), () => edit(null), { className: "primary", id: "add-pool" })), place);
  await list.load();
}

export function update() {
  members?.poll().catch((error) => {
    tell(error);
    if (error.status === 404) showList();
  });
}

export function leave() {
  members = null;
}

// The members of a pool, in place of the list until somebody goes back.
async function showMembers(pool) {
  const opened = new Members(pool, () => showList(pool).catch(tell));
  await opened.load();
  members = opened;
  refill(page, opened.element);
  opened.title.focus();
}

async function showList(pool) {
  await enter(page);
  const rows = [...page.querySelectorAll("tr[data-name]")];
  rows.find((one) => one.dataset.name === pool?.name)?.querySelector("button").focus();
}

function draw() {
  refill(place, table(t("tab_pools"), [t("labelName"), t("strategy"), t("members"), t("usedBy"), t("actions")],
    list.items.map(row), nothing(t("noPools"), t("noPoolsHint"), button(t("addFirstPool"), () => edit(null)))),
  list.pager());
}

function strategyText(pool) {
  if (pool.strategy !== "sticky") return word("strategy", pool.strategy);
  const minutes = t("minutes", { count: pool.sticky_minutes });
  const header = headerOf(pool.sticky_by);
  const by = header ? `${word("sticky", "header")} ${header}` : word("sticky", pool.sticky_by);
  return `${word("strategy", "sticky")}: ${by}, ${minutes}`;
}

const headerOf = (by) => (by.startsWith(HEADER) ? by.slice(HEADER.length) : "");

// A member is a name, or a name and its weight. As a line it is `name=weight`, if it weighs more
// than 1 or its name ends like a weight.
const nameOf = (member) => member.name ?? member;
const weightOf = (member) => member.weight ?? 1;
const lineOf = (name, weight) => (weight === 1 && !WEIGHTED.test(name) ? name : `${name}=${weight}`);

function memberOf(line) {
  const [, name, weight] = WEIGHTED.exec(line) ?? [];
  return name ? { name: name.trim(), weight: Number(weight) } : line;
}

function row(pool) {
  const own = pool.source === "registry";
  const shares = (one) => (weightOf(one) === 1 ? nameOf(one) : `${nameOf(one)} × ${shown(weightOf(one))}`);
  const members = pool.members.slice(0, SHOWN).map((one) => [badge(shares(one)), " "]);
  const more = pool.members.length - SHOWN;
  return el("tr", { "data-name": pool.name },
    cell(el("strong", {}, pool.name), own ? null : note(t("fromFile")), note(inWords(pool, "problem"), "bad")),
    cell(strategyText(pool)),
    cell(members.length ? members : badge(t("emptyPool"), "bad"),
      more > 0 ? note(t("moreMembers", { count: more })) : null),
    cell(shown(pool.used_by)),
    el("td", { className: "actions" },
      rowButton(t("members"), pool.name, () => showMembers(pool).catch(tell)),
      own ? [
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
  const words = ["client", "user", "host", "header"].map((one) => [one, word("sticky", one)]);
  const byHeader = headerOf(at.sticky_by);
  const by = select(words, byHeader ? "header" : at.sticky_by, { name: "sticky_by" });
  const header = input("header", byHeader, { maxLength: 100, placeholder: "x-account" });
  const minutes = input("sticky_minutes", at.sticky_minutes, { type: "number", min: 1, max: 1440 });
  const failover = input("failover", at.failover, { type: "number", min: 0, max: 5 });
  const seed = input("seed", at.seed, { type: "number", min: 0, max: Number.MAX_SAFE_INTEGER });
  const checks = checkControls(at.checks);
  const written = at.members.map((one) => lineOf(nameOf(one), weightOf(one)));
  const members = textarea("members", written.join("\n"), { rows: 6 });
  const weight = input("weight", 1, {
    type: "number", min: 1, max: 1000, "aria-label": t("weight"), title: t("weight"), className: "short",
  });
  const known = picker("", "", { "aria-label": t("addMember"), placeholder: t("addMember") });
  const add = button(t("add"), () => {
    const added = known.input.value.trim();
    if (added) members.value = [...lines(members), lineOf(added, Number(weight.value) || 1)].join("\n");
    known.input.value = "";
    weight.value = 1;
    known.input.focus();
  });
  known.input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    add.click();
  });
  const sticky = [field(t("stickyBy"), by), field(t("stickyMinutes"), minutes)];
  const ofHeader = field(t("stickyHeader"), header);
  const fit = () => {
    for (const one of sticky) one.hidden = strategy.value !== "sticky";
    ofHeader.hidden = strategy.value !== "sticky" || by.value !== "header";
  };
  for (const one of [strategy, by]) one.addEventListener("input", fit);
  fit();
  openDialog(t(pool ? "editPool" : "addPool"), el("div", { className: "form" },
    field(t("labelName"), name), field(t("strategy"), strategy), sticky, ofHeader,
    field(t("members"), members, t("membersHint"), { className: "field wide" }), known.list,
    el("div", { className: "wide beside" }, known.input, weight, add),
    field(t("failover"), failover, t("failoverHint")), field(t("seed"), seed, t("seedHint")),
    checks.fields), {
    reload: () => edit(pool.id),
    async act() {
      const fields = {
        name: name.value, strategy: strategy.value, members: lines(members).map(memberOf),
        sticky_by: by.value === "header" ? HEADER + header.value.trim() : by.value,
        sticky_minutes: Number(minutes.value), failover: Number(failover.value),
        seed: seed.value === "" ? null : Number(seed.value), checks: checks.value(),
      };
      if (pool) await patch("/pools", { id: pool.id, ...fields }, pool.etag);
      else await post("/pools", fields);
      await list.refresh();
    },
  });
}

// The controls of the checks: which members, and the rest where there are any.
function checkControls(checks) {
  const which = select([["", t("none")], ["down", t("checksDown")], ["all", t("checksAll")]],
    checks?.members ?? "", { name: "checks" });
  const every = input("checks_every", checks ? `${checks.every}s` : "60s");
  const expect = input("checks_expect", checks?.expect ?? "200-399");
  const ipv4 = input("checks_url_ipv4", checks?.url?.ipv4, { type: "url", placeholder: "https://example.com/" });
  const ipv6 = input("checks_url_ipv6", checks?.url?.ipv6, { type: "url", placeholder: "https://example.com/" });
  const rest = [field(t("checksEvery"), every), field(t("checksExpect"), expect),
    field(t("checksUrlIpv4"), ipv4, t("checksUrlHint")), field(t("checksUrlIpv6"), ipv6)];
  const fit = () => rest.forEach((one) => { one.hidden = !which.value; });
  which.addEventListener("input", fit);
  fit();
  const value = () => {
    if (!which.value) return null;
    const urls = { ipv4: ipv4.value.trim() || null, ipv6: ipv6.value.trim() || null };
    const url = urls.ipv4 || urls.ipv6 ? urls : null;
    return { members: which.value, every: every.value.trim(), expect: expect.value.trim(), url };
  };
  return { fields: [field(t("checks"), which), ...rest], value };
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
