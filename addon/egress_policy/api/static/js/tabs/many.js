// What is done to many proxies at once: those that a person has chosen, and all that were found.
import { all, post } from "../api.js";
import { confirm, openDialog } from "../dialog.js";
import { button, cell, el, field, input, notify, refill, select, table, tell } from "../dom.js";
import { families } from "../family.js";
import { inWords, joined, t } from "../i18n.js";
import { testRun } from "./test_run.js";

const SHOWN = 20;
const words = (text) => text.split(/[\s,]+/).filter(Boolean);

export class Many {
  constructor({ list, redraw, refresh, showFailed }) {
    Object.assign(this, { list, redraw, refresh, place: el("div"), chosen: new Map() });
    this.run = testRun({
      tested: (results) => this.tested(results), ended: () => this.list.refresh(), show: showFailed,
    });
  }

  choose(proxies, on) {
    for (const { id, name } of proxies) {
      if (on) this.chosen.set(id, name);
      else this.chosen.delete(id);
    }
  }

  draw() {
    const { chosen, list } = this;
    if (!chosen.size) return refill(this.place);
    const act = (text, work, properties) => button(text, work, { "data-key": text, ...properties });
    refill(this.place, el("div", { className: "tools bulk", role: "group", "aria-label": t("selected") },
      el("span", { role: "status" }, t("selectedCount", { count: chosen.size })),
      act(t("test"), () => this.run.start([...chosen.keys()])),
      act(t("editMany"), () => this.edit()),
      act(t("enable"), () => this.setStatus("active")),
      act(t("disable"), () => this.setStatus("inactive")),
      act(t("delete"), () => this.remove(), { className: "danger" }),
      chosen.size < list.total ? act(t("selectFound", { count: list.total }), ({ target }) => this.chooseFound(target)) : null,
      act(t("selectNone"), () => this.chooseNone())));
  }

  chooseNone() {
    this.chosen.clear();
    this.list.draw();
    document.querySelector("[data-key=select-all]").focus();
  }

  async chooseFound(control) {
    control.disabled = true;
    this.choose((await this.found()) ?? [], true);
    this.list.draw();
    this.place.querySelector("button")?.focus();
  }

  found() {
    return all("/proxies", this.list.query).catch(tell);
  }

  async testFound() {
    const found = await this.found();
    if (found?.length) await this.run.start(found.map(({ id }) => id));
  }

  // Rows that are on this page show the results as they come.
  tested(results) {
    for (const proxy of this.list.items) proxy.last_test = results.get(proxy.id) ?? proxy.last_test;
    this.redraw();
  }

  // -- changes

  // Returns what says how it went.
  async change(how, ids = [...this.chosen.keys()]) {
    const { done, failed } = await post("/proxies/bulk", { ids, ...how });
    const left = new Set(failed.map(({ id }) => id));
    for (const id of how.delete ? ids : []) if (!left.has(id)) this.chosen.delete(id);
    await this.refresh();
    const summary = t(how.delete ? "manyDeleted" : "manyChanged", { count: done });
    return () => (failed.length ? tellFailed(summary, failed) : notify(summary, "good"));
  }

  setStatus(status) {
    return this.change({ changes: { status } }).then((say) => say(), tell);
  }

  // What it came to is said when the dialog is closed.
  remove() {
    const dialog = confirm(t("confirmDeleteSelected", { count: this.chosen.size }), [], t("delete"), async () => {
      dialog.addEventListener("close", await this.change({ delete: true }));
    });
  }

  edit() {
    const ids = [...this.chosen.keys()];
    const same = ["", t("unchanged")];
    const controls = {
      family: select([same, ...families()], "", { name: "family" }),
      status: select([same, ["active", t("active")], ["inactive", t("inactive")]], "", { name: "status" }),
      region: input("region", "", { maxLength: 64, placeholder: t("unchanged") }),
    };
    const add = input("add_tags", "", { placeholder: "eu, fast" });
    const drop = input("remove_tags", "");
    const dialog = openDialog(t("editManyTitle", { count: ids.length }), el("div", { className: "form" },
      field(t("labelFamily"), controls.family), field(t("status"), controls.status), field(t("region"), controls.region),
      field(t("addTags"), add, t("tagsHint")), field(t("removeTags"), drop)), {
      act: async () => {
        const given = Object.entries(controls).filter(([, { value }]) => value);
        const changes = Object.fromEntries(given.map(([name, { value }]) => [name, value]));
        const tags = { add_tags: words(add.value), remove_tags: words(drop.value) };
        dialog.addEventListener("close", await this.change({ changes, ...tags }, ids));
      },
    });
  }
}

// What stayed as it was: each reason once, with the names.
function tellFailed(summary, failed) {
  const groups = Map.groupBy(failed, (one) => withoutName(inWords(one, "message"), one.name));
  const named = (group) => group.slice(0, SHOWN).map(({ name }) => name);
  const more = (group) => (group.length > SHOWN ? [t("moreMembers", { count: group.length - SHOWN })] : []);
  openDialog(t("manyFailed", { count: failed.length }), [
    el("p", {}, summary),
    table(t("why"), [t("why"), t("proxy")], [...groups].map(([why, group]) => el("tr", {},
      cell(group.length > 1 ? why : inWords(group[0], "message")), cell(joined([...named(group), ...more(group)])))))]);
}

// So that sentences which differ in their proxy alone are the same one. "v4" is no part of IPv4.
function withoutName(text, name) {
  const literal = name.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  return text.replace(new RegExp(`(?<![\\p{L}\\p{N}])${literal}(?![\\p{L}\\p{N}])`, "gu"), "…");
}
