// A text with suggestions: the names of proxies and pools, of which there may be too many for a menu.
import { get } from "./api.js";
import { el, input, settled, tell } from "./dom.js";

let made = 0;

// `fixed` is suggested always, of the proxies what fits to what was typed.
export function picker(name, value, { fixed = [], pools = false, query = {}, ...properties } = {}) {
  const id = `names-${(made += 1)}`;
  const list = el("datalist", { id });
  const text = input(name, value, { list: id, ...properties });
  let names = [...fixed];
  const suggest = async () => {
    const found = await get(`/proxies?${new URLSearchParams({ ...query, q: text.value, limit: 20 })}`);
    const suggested = [...names, ...found.items.map((one) => one.name)];
    list.replaceChildren(...suggested.map((one) => el("option", { value: one })));
  };
  const again = () => suggest().catch(tell);
  text.addEventListener("input", settled(again));
  if (pools) {
    get("/pools?limit=200").then((found) => {
      names = [...fixed, ...found.items.map((one) => one.name)];
      return again();
    }).catch(tell);
  } else again();
  return { input: text, list };
}
