// Pools of interchangeable proxies.
import { all, patch, post, remove } from "../api.js";
import { openDialog } from "../dialog.js";
import { badge, button, cell, el, field, select, table } from "../dom.js";
import { t } from "../i18n.js";

let place;

export async function enter(main) {
  place = el("div");
  main.replaceChildren(el("div", { className: "tools" },
    button(t("addPool"), () => edit(null), { className: "primary", id: "add-pool" })), place);
  await load();
}

async function load() {
  const pools = await all("/pools");
  place.replaceChildren(table([t("labelName"), t("strategy"), t("members"), t("usedBy"), t("actions")],
    pools.map(row), t("tab_pools")));
}

function row(pool) {
  const own = pool.source === "registry";
  return el("tr", {},
    cell(pool.name, own ? null : el("p", { className: "note" }, t("fromFile")),
      pool.problem ? el("p", { className: "note bad" }, pool.problem) : null),
    cell(pool.strategy),
    cell(pool.members.length ? pool.members.flatMap((name) => [badge(name), " "]) : badge(t("emptyPool"), "bad")),
    cell(String(pool.used_by)),
    el("td", { className: "actions" }, own ? [
      button(t("edit"), () => edit(pool), { className: "small" }), " ",
      button(t("delete"), () => confirmDelete(pool), { className: "small danger" })] : ""));
}

async function edit(pool) {
  const proxies = (await all("/proxies")).map((one) => one.name);
  const name = el("input", { value: pool?.name || "", required: true, maxLength: 120 });
  const strategies = ["first", "round-robin", "random", "sticky", "latency"].map((one) => [one, one]);
  const strategy = select(strategies, pool?.strategy || "round-robin");
  const members = el("textarea", { rows: 6, value: (pool?.members || []).join("\n") });
  const known = el("select", {
    "aria-label": t("addMember"),
    onchange: () => {
      if (known.value) members.value = [...lines(members), known.value].join("\n");
      known.value = "";
    },
  }, el("option", { value: "" }, t("addMember")), proxies.map((one) => el("option", { value: one }, one)));
  openDialog(t(pool ? "editPool" : "addPool"), el("div", { className: "form" },
    field(t("labelName"), name), field(t("strategy"), strategy), field(t("membersHint"), members), known), {
    async act() {
      const stated = { name: name.value, strategy: strategy.value, members: lines(members) };
      if (pool) await patch("/pools", { id: pool.id, ...stated }, pool.etag);
      else await post("/pools", stated);
      await load();
    },
  });
}

const lines = (control) => control.value.split("\n").map((one) => one.trim()).filter(Boolean);

function confirmDelete(pool) {
  const content = [el("p", {}, t("confirmDelete", { name: pool.name }))];
  if (pool.used_by) content.push(el("p", { className: "note warn" }, t("forcedHint")));
  openDialog(t("delete"), content, {
    verb: t(pool.used_by ? "deleteForced" : "delete"), danger: true,
    async act() {
      await remove(`/pools?id=${encodeURIComponent(pool.id)}${pool.used_by ? "&force=1" : ""}`);
      await load();
    },
  });
}
