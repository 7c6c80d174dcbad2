// Elements from data. Text is always text: nothing here parses markup.
import { t } from "./i18n.js";

let hints = 0;

// What is not seen but acts: controls, marks that turn the direction around, characters without a
// width. Names, notes and hosts of others may hold them, to look like other ones or to reorder what
// stands beside them.
const UNSEEN = new RegExp(
  "[\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f" +
  "\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}]", "gu");
const code = (character) => character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");

// A text as it is shown: what is not seen is named.
export const plain = (text) => String(text).replace(UNSEEN, (found) => `[U+${code(found)}]`);

const SHOWN = new Set(["title", "aria-label", "placeholder"]);

export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (SHOWN.has(key)) element.setAttribute(key, plain(value));
    else if (key in element && !key.includes("-") && key !== "list") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  const given = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== "");
  element.append(...given.map((child) => (child instanceof Node ? child : plain(child))));
  return element;
}

export function button(text, onclick, properties = {}) {
  return el("button", { type: "button", onclick, ...properties }, text);
}

// A button of a row: it says which row it is of, and keeps the focus when the row is drawn anew.
export function rowButton(text, name, onclick, properties = {}) {
  const label = `${text}: ${name}`;
  return button(text, onclick, { className: "small", "aria-label": label, "data-key": label, ...properties });
}

// A control with its label. A hint is told with the control, but is no part of its name.
export function field(text, control, hint = "", properties = {}) {
  const label = el("label", {}, el("span", {}, text), control);
  if (!hint) return el("div", { className: "field", ...properties }, label);
  const id = `hint-${(hints += 1)}`;
  control.setAttribute("aria-describedby", id);
  return el("div", { className: "field", ...properties }, label, el("span", { className: "note", id }, hint));
}

// A text as it is typed: nothing completes or corrects it.
export function input(name, value, properties = {}) {
  return el("input", { name, value: value ?? "", autocomplete: "off", spellcheck: false, ...properties });
}

export function textarea(name, value, properties = {}) {
  return el("textarea", { name, value: value ?? "", spellcheck: false, ...properties });
}

export function select(options, value, properties = {}) {
  return el("select", properties, options.map(([key, text]) =>
    el("option", { value: key, selected: key === value }, text)));
}

// A table that can be read on a narrow screen too, where each row is a card of named values.
// `fill` shows other rows. `empty` stands where there are none; a function says so anew each time.
// The roles are written out because cards are not laid out as a table.
export function table(caption, heads, rows, empty = t("nothingHere")) {
  const columns = heads.map((head) => (head instanceof Node ? head : el("th", { scope: "col" }, head)));
  columns.forEach((column) => column.setAttribute("role", "columnheader"));
  const names = columns.map((column) => column.dataset.name ?? column.textContent);
  const body = el("tbody", { role: "rowgroup" });
  const region = el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    el("table", { role: "table", "aria-label": caption },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, columns)), body));
  region.fill = (found) => {
    for (const row of found.filter((one) => one.parentElement !== body)) {
      row.setAttribute("role", "row");
      [...row.cells].forEach((one, index) => {
        one.setAttribute("role", "cell");
        one.dataset.head = names[index];
      });
    }
    const nothing = el("td", { role: "cell", colSpan: columns.length, className: "empty" },
      typeof empty === "function" ? empty() : empty);
    refill(body, found.length ? found : el("tr", { role: "row" }, nothing));
  };
  region.fill(rows);
  return region;
}

// Stands where there are no rows yet: what is missing, what it is for, and what to do next.
export function nothing(text, hint, ...next) {
  const steps = next.filter(Boolean);
  return el("div", { className: "nothing" }, el("p", {}, el("strong", {}, text)), note(hint),
    steps.length ? el("div", { className: "tools" }, steps) : null);
}

// A button that leads to a tab.
export const goTo = (tab, text, properties) => button(text, () => { location.hash = tab; }, properties);

export function cell(...children) {
  return el("td", {}, children);
}

export function note(text, kind = "") {
  return text ? el("p", { className: `note ${kind}` }, text) : null;
}

export function badge(text, kind = "") {
  return el("span", { className: `badge ${kind}`, title: text }, text);
}

// Shows other children; the focus stays where it was, see `refocus`.
export function refill(place, ...children) {
  const spot = place.contains(document.activeElement) && spotOf(document.activeElement);
  arrange(place, children.flat().filter(Boolean));
  if (spot) refocus(spot);
}

// Where a control stands: its `data-key`, and its row in a table of this name.
export function spotOf(control) {
  const row = control?.closest("tbody tr");
  return {
    control, key: control?.dataset.key, name: row?.dataset.name,
    index: row ? [...row.parentElement.rows].indexOf(row) : -1,
    table: row?.closest("[role=region]")?.getAttribute("aria-label"),
  };
}

// Gives the focus back to a control that was drawn anew. If it is gone, its row gets it, or the row
// that took the place of its row, or the table where no row is left.
export function refocus({ control, key, name, index, table: label }) {
  if (control?.isConnected || document.activeElement !== document.body) return;
  const same = key && document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  const region = label && document.querySelector(`[role=region][aria-label="${CSS.escape(label)}"]`);
  const rows = region ? [...region.querySelectorAll("tbody tr")] : [];
  const row = rows.find((one) => name && one.dataset.name === name) ?? rows[Math.min(index, rows.length - 1)];
  const near = row && (row.querySelector(".actions button:enabled") ??
    row.querySelector("summary, button:enabled, a[href], input:enabled"));
  (same || near || region || null)?.focus();
}

// What is shown already is not touched: it keeps its focus, what is marked in it, and its place under
// the eyes of who reads it.
function arrange(place, children) {
  const nodes = children.map((child) => (child instanceof Node ? child : new Text(child)));
  const wanted = new Set(nodes);
  for (const one of [...place.childNodes]) if (!wanted.has(one)) one.remove();
  let at = place.firstChild;
  for (const one of nodes) {
    if (one === at) at = at.nextSibling;
    else place.insertBefore(one, at);
  }
}

// Whether somebody presses something there, waits for it, or marks text.
export function inHand(place) {
  const marked = getSelection();
  return Boolean(place.querySelector(":active, [aria-busy=true]")) ||
    (marked.type === "Range" && place.contains(marked.anchorNode));
}

// Does what a button is for, and says so while it lasts. Not disabled: it would lose the focus.
export async function busy(control, act) {
  if (control.ariaBusy) return;
  control.ariaBusy = "true";
  await act().catch(tell);
  control.ariaBusy = null;
}

// What went wrong stays until it is closed.
export function notify(text, kind = "") {
  const close = button("×", () => notice.remove(), { className: "small", "aria-label": t("close") });
  const notice = el("p", { className: kind }, el("span", {}, text), close);
  document.getElementById("notices").append(notice);
  if (kind !== "bad") setTimeout(() => notice.remove(), 8000);
}

// For what nobody waits for: a login and an outage are told by the page itself.
export function tell(error) {
  if (error.status !== 401 && error.status !== 0) notify(error.message, "bad");
}

// Calls it once nobody has asked for `wait` ms.
export function settled(act, wait = 150) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, wait);
  };
}
