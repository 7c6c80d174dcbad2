// The members of a pool: how each fares and what it gets, as that changes.
import { remove } from "../api.js";
import { confirm } from "../dialog.js";
import { badge, button, cell, el, field, note, notify, refill, select, table } from "../dom.js";
import { exitLines } from "../exits.js";
import { fares, resetButton, stateWord, STATES } from "../fares.js";
import { Histories } from "../history.js";
import { fromNow, inWords, joined, percent, shown, t } from "../i18n.js";
import { Listing } from "../listing.js";
import { sample, trend } from "../trend.js";

const LEASES = 10;

// The view of a pool. `poll` shows how it fares now.
export class Members {
  constructor(pool, back) {
    const path = `/pools/${encodeURIComponent(pool.id)}`;
    const states = [["", t("any")], ...STATES()];
    this.pool = pool;
    this.path = path;
    this.histories = new Histories();
    this.list = new Listing(`${path}/members`, () => this.draw(), { query: { state: "" } });
    this.leases = new Listing(`${path}/leases`, () => this.drawLeases(), { size: LEASES });
    this.summary = el("div", { className: "summary" });
    const heads = [t("member"), t("status"), t("now"), t("attempts"), t("share"), t("connections"), t("exit")];
    this.rows = table(t("membersOf", { name: pool.name }), heads, []);
    this.pager = el("div");
    this.held = el("section");
    this.title = el("h2", { tabIndex: -1, id: "pool-members" }, t("membersOf", { name: pool.name }));
    this.element = el("section", { "aria-labelledby": "pool-members" },
      el("div", { className: "head" }, this.title, button(t("allPools"), back, { id: "all-pools" })),
      el("div", { className: "tools" },
        field(t("now"), select(states, "", { onchange: ({ target }) => this.list.ask({ state: target.value }) })),
        this.summary),
      this.rows, this.pager, this.isSticky ? this.held : null);
  }

  get isSticky() {
    return this.pool.strategy === "sticky";
  }

  load() {
    return Promise.all([this.list.load(), this.isSticky && this.leases.load()]);
  }

  poll() {
    return Promise.all([this.list.poll(this.rows), this.isSticky && this.leases.poll(this.held)]);
  }

  draw() {
    const { answer } = this.list;
    this.list.items.forEach(sample);
    refill(this.summary, Object.entries(answer.states).map(([state, count]) =>
      el("span", {}, stateWord(state), shown(count))), note(inWords(answer, "problem"), "bad"));
    this.rows.fill(this.list.items.map((one) => this.row(one)));
    refill(this.pager, this.list.pager());
  }

  row(member) {
    const { proxy, status, weight, share, expected_share: expected, active, limit } = member;
    return el("tr", { "data-name": proxy },
      cell(el("strong", {}, proxy), note(weight === 1 ? "" : t("weighs", { weight }))),
      cell(status ? badge(t(status), status === "active" ? "good" : "warn") : "–"),
      cell(...fares(member, status), resetButton(member, proxy, () => this.list.refresh()), this.histories.of(proxy)),
      cell(...trend(member)),
      cell(share === null ? "–" : percent(share), note(t("expectedShare", { part: percent(expected) }))),
      cell(limit ? t("activeOf", { active, limit }) : shown(active)),
      cell(...exitLines(member.exits)));
  }

  drawLeases() {
    const { answer, items, total } = this.leases;
    const counts = Object.entries(answer.members).map(([name, count]) => `${name} ${shown(count)}`);
    const heads = [t("key"), t("member"), t("began"), t("ends")];
    const rows = items.map((one) => el("tr", {}, cell(el("code", {}, one.key)), cell(badge(one.member)),
      cell(fromNow(-one.age_s)), cell(fromNow(one.expires_in_s))));
    refill(this.held,
      el("div", { className: "head" }, el("h3", {}, t("leases", { count: total })),
        total ? button(t("forgetLeases"), () => this.forget(total), { "data-key": "forget" }) : null),
      note(t("leasesHint")), note(joined(counts)),
      table(t("leases", { count: total }), heads, rows, t("noLeases")), this.leases.pager());
  }

  forget(count) {
    confirm(t("confirmForget", { count, name: this.pool.name }), [t("forgetHint")], t("forgetLeases"), async () => {
      const { forgotten } = await remove(`${this.path}/leases`);
      notify(t("forgotten", { count: forgotten }), "good");
      await this.leases.refresh();
    });
  }
}
