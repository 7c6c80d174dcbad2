// Subscriptions: lists of proxies behind URLs. A list is looked at before it is taken.
import { get, patch, pathOf, post, remove } from "../api.js";
import { confirm, openDialog } from "../dialog.js";
import { badge, busy, button, cell, el, field, input, note, notify, refill, rowButton, select, table, tell } from "../dom.js";
import { ago, fromNow, inWords, joined, t } from "../i18n.js";
import { Listing } from "../listing.js";
import { picker } from "../picker.js";

const TYPES = [["socks5", "SOCKS5"], ["http", "HTTP"], ["https", "HTTPS"]];
const NEW = { via: "direct", every_hours: 24, tags: [], status: "active" };
const KINDS = { created: "good", updated: "good", removed: "warn", kept: "warn", skipped: "", failed: "bad" };
const COUNTED = ["created", "updated", "removed", "kept", "unchanged", "skipped", "failed"];

// `changed` is called when proxies were.
export async function showSubscriptions(changed) {
  const place = el("div", { id: "subscriptions" });
  const list = new Listing("/subscriptions", draw);
  function draw() {
    const heads = [t("labelName"), t("fetchVia"), t("lastFetch"), t("listProxies"), t("actions")];
    const rows = list.items.map((one) => row(one, list, changed));
    refill(place, table(t("subscriptions"), heads, rows, t("noSubscriptions")), list.pager());
  }
  await list.load();
  const add = button(t("addSubscription"), () => edit(null, list), { id: "add-subscription" });
  const content = [note(t("subscriptionsHint")), el("div", { className: "end" }, add), place];
  openDialog(t("subscriptions"), content).classList.add("wide");
}

function row(one, list, changed) {
  const rare = one.status === "inactive" ? badge(t("inactive"), "warn") : null;
  return el("tr", { "data-name": one.name },
    cell(el("strong", {}, one.name), note(one.place), rare, note(one.problem, "bad")),
    cell(el("code", {}, one.via)), cell(...lastOf(one)), cell(String(one.proxies)),
    el("td", { className: "actions" },
      rowButton(t("fetchList"), one.name, (event) => busy(event.target, () => look(one, list, changed))),
      rowButton(t("edit"), one.name, () => edit(one.id, list).catch(tell)),
      rowButton(t("delete"), one.name, () => drop(one, list), { className: "small danger" })));
}

function lastOf({ last, due_at: due }) {
  if (!last) return [note(t("neverFetched"))];
  const next = due ? note(t("nextFetch", { when: fromNow(Math.max(0, (new Date(due) - Date.now()) / 1000)) })) : null;
  return [badge(ago(last.at), last.ok ? "good" : "bad"), note(last.detail, "bad"), next];
}

// -- what a list brings

async function look(one, list, changed) {
  const path = `/subscriptions/${encodeURIComponent(one.id)}`;
  const report = await post(`${path}/preview`, {});
  const changes = report.created + report.updated + report.removed;
  const rows = report.changes.map((change) => el("tr", {},
    cell(badge(t(`change_${change.kind}`), KINDS[change.kind])), cell(change.name), cell(inWords(change, "message"))));
  const content = [el("p", {}, el("strong", {}, counts(report))),
    changes ? null : note(t("listUnchanged")),
    rows.length ? table(t("preview"), [t("result"), t("labelName"), t("why")], rows) : null];
  const dialog = openDialog(t("fetchTitle", { name: one.name }), content.filter(Boolean), {
    verb: t("takeList"),
    async act() {
      const done = await post(`${path}/refresh`, {});
      notify(`${one.name}: ${counts(done)}`, done.failed ? "warn" : "good");
      await Promise.all([list.refresh(), changed()]);
    },
  });
  dialog.classList.add("wide");
}

const counts = (report) => joined(COUNTED.filter((kind) => report[kind])
  .map((kind) => t("changeCount", { what: t(`change_${kind}`), count: report[kind] })));

// -- the form

async function edit(id, list) {
  const one = id && (await get(pathOf("subscriptions", id)));
  const at = one || NEW;
  const via = picker("via", at.via, { fixed: ["direct"], required: true });
  const controls = {
    name: input("name", at.name, { required: true, maxLength: 120 }),
    url: input("url", "", {
      required: !one, maxLength: 2000, placeholder: at.place || "https://lists.example.com/proxies.txt",
    }),
    via: via.input,
    every_hours: input("every_hours", at.every_hours, { type: "number", min: 0, max: 720 }),
    type: select([["", t("importTypeDefault")], ...TYPES], at.type ?? "", { name: "type" }),
    tags: input("tags", at.tags.join(", ")),
    status: select([["active", t("active")], ["inactive", t("inactive")]], at.status, { name: "status" }),
  };
  const urlHint = one ? `${t("keepUrl")}. ${t("listUrlHint")}` : t("listUrlHint");
  const content = el("div", { className: "form" },
    field(t("labelName"), controls.name, "", { className: "field wide" }),
    field(t("listUrl"), controls.url, urlHint, { className: "field wide" }),
    field(t("fetchVia"), controls.via, t("fetchViaHint")), via.list,
    field(t("everyHours"), controls.every_hours, t("everyHoursHint")),
    field(t("importType"), controls.type), field(t("status"), controls.status),
    field(t("tags"), controls.tags, t("tagsHint"), { className: "field wide" }));
  openDialog(t(one ? "editSubscription" : "addSubscription"), content, {
    reload: () => edit(id, list),
    async act() {
      const fields = Object.fromEntries(Object.entries(controls).map(([key, control]) => [key, control.value.trim()]));
      fields.every_hours = Number(fields.every_hours);
      fields.type = fields.type || null;
      fields.tags = fields.tags.split(/[\s,]+/).filter(Boolean);
      if (one && !fields.url) delete fields.url;
      if (one) await patch("/subscriptions", { id, ...fields }, one.etag);
      else await post("/subscriptions", fields);
      await list.refresh();
    },
  });
}

function drop(one, list) {
  confirm(t("confirmDeleteSubscription", { name: one.name }), [t("subscriptionProxiesStay")], t("delete"), async () => {
    await remove(pathOf("subscriptions", one.id));
    await list.refresh();
  });
}
