// What happened to a proxy of late, in words: loaded where somebody opens it.
import { get } from "./api.js";
import { el, note, refill, tell } from "./dom.js";
import { counted } from "./fares.js";
import { inWords, momentOf, t } from "./i18n.js";

const SHOWN = 5;

export function eventText(one) {
  const { kind, at, text } = one;
  const key = `event_${kind.replaceAll("-", "_")}`;
  const said = t(key, { when: momentOf(at), why: counted(inWords(one, "why")) });
  return said === key ? text : said;
}

// The histories that are open stay so when what is around them is drawn anew.
export class Histories {
  constructor() {
    this.opened = new Map();
  }

  of(proxy) {
    const place = el("div");
    const draw = () => refill(place, this.opened.get(proxy)?.length
      ? el("ul", {}, this.opened.get(proxy).map((one) => el("li", {}, eventText(one)))) : note(t("noEvents")));
    const load = async () => {
      const { items } = await get(`/events?${new URLSearchParams({ proxy, limit: SHOWN })}`);
      this.opened.set(proxy, items);
      draw();
    };
    if (this.opened.has(proxy)) draw();
    // Being drawn open is a toggle too.
    const ontoggle = ({ target }) => {
      if (target.open) load().catch(tell);
      else this.opened.delete(proxy);
    };
    return el("details", { open: this.opened.has(proxy), ontoggle },
      el("summary", { "aria-label": `${t("events")}: ${proxy}`, "data-key": `events-${proxy}` }, t("events")), place);
  }
}
