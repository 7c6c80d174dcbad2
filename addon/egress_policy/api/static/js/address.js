// The address of what is shown: #<tab>?<conditions of its list>. So a view can be kept, sent to
// others, and reached again with Back.
const FIRST = "overview";
const last = new Map();

const parts = () => location.hash.slice(1).split("?", 2);
const text = (tab, query) => `#${tab}${query && `?${query}`}`;

export const tabInAddress = () => parts()[0] || FIRST;
export const queryInAddress = () => Object.fromEntries(new URLSearchParams(parts()[1]));

// Goes to a tab, as it was left.
export function goTo(tab) {
  if (!location.hash) history.replaceState(null, "", text(tab, ""));
  else if (tabInAddress() !== tab) history.pushState(null, "", text(tab, last.get(tab) ?? ""));
}

// Notes the conditions of a list. `further` takes no step of the history of its own.
export function noteQuery(tab, query, { further = false } = {}) {
  const found = new URLSearchParams(query).toString();
  last.set(tab, found);
  if (text(tab, found) === location.hash) return;
  if (further) history.replaceState(null, "", text(tab, found));
  else history.pushState(null, "", text(tab, found));
}
