// A list of the API that is shown a page at a time, however long it is.
import { noteQuery, queryInAddress } from "./address.js";
import { get } from "./api.js";
import { button, el, inHand, tell } from "./dom.js";
import { t } from "./i18n.js";

export class Listing {
  // `query` are its conditions. Those of a list that names its `tab` stand in the address too.
  constructor(path, draw, { query = {}, size = 50, tab = "" } = {}) {
    Object.assign(this, { path, draw, size, tab, usual: query, query: { ...query }, offset: 0, items: [], total: 0 });
    this.asked = this.answered = 0;
    if (!tab) return;
    this.read(queryInAddress());
    this.note(true);
  }

  read({ page = "1", ...found }) {
    for (const key of Object.keys(this.usual)) if (key in found) this.query[key] = found[key];
    this.offset = Math.max(0, (Number.parseInt(page, 10) || 1) - 1) * this.size;
  }

  note(further) {
    const found = Object.entries(this.query).filter(([key, value]) => value !== this.usual[key]);
    if (this.offset) found.push(["page", this.offset / this.size + 1]);
    noteQuery(this.tab, found, { further });
  }

  // Draws what is found now. An answer that a later question has overtaken is not drawn.
  async load(take = (answer) => this.take(answer)) {
    const asked = (this.asked += 1);
    const query = new URLSearchParams({ ...this.query, limit: this.size, offset: this.offset });
    try {
      const answer = await get(`${this.path}?${query}`);
      if (asked === this.asked) await take(answer);
    } finally {
      this.answered = Math.max(this.answered, asked);
    }
  }

  take(answer, draw = this.draw) {
    const { items, page } = answer;
    if (!items.length && page.total) {
      this.offset = this.last(page.total);
      return this.load();
    }
    // Beside its page a list may say more.
    Object.assign(this, { items, answer, total: page.total });
    return draw();
  }

  // Draws what is shown in `place` as it is now; not while somebody uses it or has just asked.
  async poll(place, draw = this.draw) {
    if (this.answered !== this.asked) return;
    await this.load((answer) => place.isConnected && !inHand(place) && this.take(answer, draw));
  }

  refresh() {
    return this.load().catch(tell);
  }

  // Other conditions: from the first page on. One that is typed takes one step of the history.
  ask(changes, { typed = "" } = {}) {
    Object.assign(this.query, changes);
    return this.turn(0, typed);
  }

  // The head of a column by which the list can be sorted; numbers first from the largest down.
  head(text, name, properties = {}) {
    const { sort } = this.query;
    const [up, down] = [name, `-${name}`];
    const order = { [up]: "ascending", [down]: "descending" }[sort] ?? "none";
    const isDownFirst = order === "none" && properties.className === "number";
    const ask = () => this.ask({ sort: isDownFirst || order === "ascending" ? down : up });
    return el("th", { scope: "col", "data-name": text, "aria-sort": order, ...properties },
      button(text, ask, { "data-key": `sort-${name}` }));
  }

  turn(offset, typed = "") {
    this.offset = offset;
    if (this.tab) this.note(typed && typed === this.typed);
    this.typed = typed;
    return this.refresh();
  }

  last(total = this.total) {
    return Math.max(0, Math.ceil(total / this.size) - 1) * this.size;
  }

  // Nothing where all of it is shown.
  pager() {
    if (this.total <= this.size) return null;
    const to = (key, sign, offset, disabled) =>
      button(sign, () => this.turn(offset), { "aria-label": t(key), title: t(key), "data-key": key, disabled });
    const first = this.offset === 0;
    const end = this.offset + this.items.length;
    const last = end >= this.total;
    return el("div", { className: "pager" },
      to("firstPage", "«", 0, first), to("previous", "‹", Math.max(0, this.offset - this.size), first),
      el("span", { "aria-live": "polite" }, t("pageOf", { from: this.offset + 1, to: end, total: this.total })),
      to("next", "›", this.offset + this.size, last), to("lastPage", "»", this.last(), last));
  }
}
