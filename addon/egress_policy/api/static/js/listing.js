// A list of the API that is shown a page at a time, however long it is.
import { get } from "./api.js";
import { button, el, inHand, tell } from "./dom.js";
import { t } from "./i18n.js";

export class Listing {
  constructor(path, draw, { query = {}, size = 50 } = {}) {
    Object.assign(this, { path, draw, query, size, offset: 0, items: [], total: 0 });
    this.asked = this.answered = 0;
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

  // Other conditions: from the first page on.
  ask(changes) {
    Object.assign(this.query, changes);
    return this.turn(0);
  }

  // The head of a column by which the list can be sorted: up, then down.
  head(text, name, properties = {}) {
    const { sort } = this.query;
    const order = { [name]: "ascending", [`-${name}`]: "descending" }[sort] ?? "none";
    const ask = () => this.ask({ sort: sort === name ? `-${name}` : name });
    return el("th", { scope: "col", "data-name": text, "aria-sort": order, ...properties },
      button(text, ask, { "data-key": `sort-${name}` }));
  }

  turn(offset) {
    this.offset = offset;
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
