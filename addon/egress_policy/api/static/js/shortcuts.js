// Keys that act while nobody types: / searches, n adds, g and a letter shows a tab, ? lists them.
import { openDialog } from "./dialog.js";
import { el, table } from "./dom.js";
import { t } from "./i18n.js";

// Letters that do not depend on the language. A tab without one is reached by its button.
const LETTERS = { overview: "o", proxies: "p", rules: "r", pools: "g", exits: "e", live: "l", status: "s" };
const STORED = "shortcuts";
const WAIT = 1500;
const SEARCH = "#main input[type=search]";
const ADD = "#main button[id^=add-]";
const TYPED = "input:not([type=checkbox], [type=radio], [type=button]), textarea, select, [contenteditable]";

const isOn = () => localStorage.getItem(STORED) !== "off";
const shown = (selector) => [...document.querySelectorAll(selector)].find((one) => one.checkVisibility());

// `show` is called with the name of a tab. A key with a modifier belongs to the browser.
export function listenForShortcuts(names, show) {
  let going = 0;
  document.addEventListener("keydown", (event) => {
    const isFree = isOn() && !event.ctrlKey && !event.metaKey && !event.altKey && !event.isComposing &&
      !event.target.closest?.(TYPED) && !document.querySelector("dialog[open]");
    if (!isFree) return;
    const hasBegun = event.timeStamp - going < WAIT && going > 0;
    going = event.key === "g" && !hasBegun ? event.timeStamp : 0;
    const tab = hasBegun && names.find((name) => LETTERS[name] === event.key);
    const found = { "/": shown(SEARCH), n: shown(ADD) }[event.key];
    if (tab) show(tab);
    else if (hasBegun) return;
    else if (event.key === "?" && shown("#tabs")) showShortcuts(names);
    else if (event.key === "/" && found) found.focus();
    else if (event.key === "n" && found) found.click();
    else return;
    event.preventDefault(); // the letter is not typed into what has the focus now
  });
}

export function showShortcuts(names) {
  const keys = (...pressed) => el("td", {}, pressed.map((one) => [el("kbd", {}, one), " "]));
  const row = (pressed, text) => el("tr", {}, keys(...pressed), el("td", {}, text));
  const tabs = names.filter((name) => LETTERS[name]).map((name) => row(["g", LETTERS[name]], t(`tab_${name}`)));
  const on = el("input", {
    type: "checkbox", checked: isOn(),
    onchange: () => localStorage.setItem(STORED, on.checked ? "on" : "off"),
  });
  openDialog(t("shortcuts"), [
    table(t("shortcuts"), [t("shortcutKeys"), t("shortcutDoes")], [
      row(["/"], t("search")), row(["n"], t("shortcutNew")), row(["?"], t("shortcuts")), row(["Esc"], t("close")),
      ...tabs]),
    el("label", { className: "check" }, on, t("shortcutsOn"))]);
}
