// The Exits tab: which addresses targets see, what contradicts a person, and what is shared.
import { get } from "../api.js";
import { badge, busy, cell, el, field, goTo, note, nothing, notify, refill, rowButton, select, table, tell } from "../dom.js";
import { exitLines, expectation, hasEcho, look } from "../exits.js";
import { t } from "../i18n.js";
import { Listing } from "../listing.js";

let view;

export async function enter(main) {
  const list = new Listing("/exits", draw, { query: { problem: 0 } });
  const rows = table(t("tab_exits"), [t("proxy"), t("expected"), t("seen"), t("actions")], [],
    () => (list.query.problem === "1" ? t("nothingFound")
      : nothing(t("noExits"), t("noExitsHint"), goTo("proxies", t("addFirstProxy")))));
  view = { list, rows, pager: el("div"), shared: el("div"), isAskable: await hasEcho() };
  const ask = ({ target }) => list.ask({ problem: target.value });
  const which = select([["0", t("any")], ["1", t("exitsWrong")]], "0", { onchange: ask });
  refill(main,
    el("section", {}, note(t("exitsHint")), view.isAskable ? null : note([t("noEcho"), " ", goTo("status", t("tab_status"), { className: "small" })], "warn"),
      el("div", { className: "tools" }, field(t("exit"), which)), view.rows, view.pager),
    el("section", {}, el("h2", {}, t("shared")), note(t("sharedHint")), view.shared));
  await Promise.all([list.load(), drawShared()]);
}

export function update() {
  if (view?.rows.isConnected) view.list.poll(view.rows).catch(tell);
}

function draw() {
  view.rows.fill(view.list.items.map(row));
  refill(view.pager, view.list.pager());
}

function row(found) {
  const looks = async (event) => {
    await busy(event.target, async () => (await look(found.proxy)).forEach((one) => notify(...one)));
    await Promise.all([view.list.refresh(), drawShared()]).catch(tell);
  };
  return el("tr", { "data-name": found.proxy, className: found.problem ? "refused" : "" },
    cell(el("strong", {}, found.proxy)), cell(...expectation(found)), cell(...exitLines(found)),
    el("td", { className: "actions" }, view.isAskable ? rowButton(t("look"), found.proxy, looks) : null));
}

async function drawShared() {
  const { items } = await get("/exits/shared");
  const rows = items.map((one) => el("tr", {},
    cell(el("strong", {}, one.group)),
    cell(badge(t(one.decided ? "sharedExit" : "sharedUndecided"), one.decided ? "bad" : "warn"),
      one.exit ? el("div", {}, el("code", {}, one.exit)) : null),
    cell(one.users.map((user) => el("div", {}, el("code", {}, user.assignment), " ", badge(user.proxy))))));
  refill(view.shared, table(t("shared"), [t("group"), t("exit"), t("assignments")], rows, t("nothingShared")));
}
