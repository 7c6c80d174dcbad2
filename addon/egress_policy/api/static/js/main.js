// The page: session, language, theme, tabs, and whether all is well.
import { goTo, tabInAddress } from "./address.js";
import { get, remove } from "./api.js";
import { button, el, tell } from "./dom.js";
import { LANGUAGES, loadLanguage, preferredLanguage, t } from "./i18n.js";
import { hasSession, loginAgain, loginForm } from "./session.js";
import { listenForShortcuts, showShortcuts } from "./shortcuts.js";
import { tellState } from "./state.js";
import * as exits from "./tabs/exits.js";
import * as live from "./tabs/live.js";
import * as overview from "./tabs/overview.js";
import * as pools from "./tabs/pools.js";
import * as proxies from "./tabs/proxies.js";
import * as rules from "./tabs/rules.js";
import * as status from "./tabs/status.js";

// A tab has `enter`, and may have `leave` and `update`, which gets the status every few seconds.
const TABS = { overview, proxies, rules, pools, exits, live, status };
const POLL = 5000;
const POLL_OUTAGE = 1000;
const main = document.getElementById("main");
const tabs = document.getElementById("tabs");
const logout = document.getElementById("logout");
const shortcuts = document.getElementById("shortcuts");
const outage = document.getElementById("outage");
const ownNetwork = document.getElementById("own-network");
let current = null;
let asking = true;
let timer;

start();

async function start() {
  await loadLanguage(preferredLanguage());
  const stored = localStorage.getItem("theme") || "auto";
  theme(stored);
  fill("theme", [["auto", t("themeAuto")], ["light", t("themeLight")], ["dark", t("themeDark")]], stored, theme);
  fill("language", Object.entries(LANGUAGES), document.documentElement.lang, () => location.reload());
  logout.onclick = () => remove("/api/v1/session").then(() => location.reload(), tell);
  document.addEventListener("unauthenticated", expired);
  document.addEventListener("unreachable", left);
  document.addEventListener("reachable", returned);
  for (const key of ["title", "aria-label"]) shortcuts.setAttribute(key, t("shortcuts"));
  shortcuts.onclick = () => showShortcuts(Object.keys(TABS));
  listenForShortcuts(Object.keys(TABS), (name) => !asking && show(name));
  addEventListener("hashchange", () => (TABS[tabInAddress()] ? show(tabInAddress()) : location.reload()));
  await enter();
  watch();
}

// Asks again and again; in an outage more often, to end it soon.
async function watch() {
  await showState();
  if (outage.hidden) watchIn(POLL);
}

function watchIn(wait) {
  clearTimeout(timer);
  timer = setTimeout(watch, wait);
}

function left() {
  outage.hidden = false;
  if (current) tellState(null);
  watchIn(POLL_OUTAGE);
}

function theme(value) {
  document.documentElement.dataset.theme = value;
}

function fill(id, options, value, changed) {
  const control = document.getElementById(id);
  control.replaceChildren(...options.map(([key, text]) => el("option", { value: key }, text)));
  control.value = value;
  control.onchange = () => {
    localStorage.setItem(id, control.value);
    changed(control.value);
  };
}

async function enter() {
  const word = TABS[tabInAddress()] ? "" : tabInAddress();
  if (await hasSession(word)) return showTabs();
  main.replaceChildren(loginForm(t("logIn"), word ? t("linkGone") : "", showTabs));
  document.getElementById("token").focus();
}

function expired() {
  if (asking) return;
  asking = true;
  TABS[current].leave?.();
  loginAgain(showTabs);
}

function returned() {
  if (outage.hidden) return;
  outage.hidden = true;
  if (current && !asking) show(current);
}

function showTabs() {
  asking = false;
  tabs.hidden = logout.hidden = shortcuts.hidden = false;
  const names = Object.keys(TABS);
  tabs.setAttribute("aria-label", t("title"));
  tabs.replaceChildren(...names.map((name) => button(t(`tab_${name}`), () => show(name), {
    role: "tab", id: `tab-${name}`, "aria-controls": "main", "data-text": t(`tab_${name}`),
    onkeydown(event) {
      const at = names.indexOf(name);
      const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      show(names.at(next % names.length));
      document.getElementById(`tab-${current}`).focus();
    },
  })));
  main.setAttribute("role", "tabpanel");
  show(TABS[tabInAddress()] ? tabInAddress() : "overview");
  showState();
}

async function show(name) {
  TABS[current]?.leave?.();
  current = name;
  goTo(name);
  for (const tab of tabs.children) {
    const selected = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
  }
  main.setAttribute("aria-labelledby", `tab-${name}`);
  // What is entered after the user has gone on draws into a place that is not shown.
  const place = el("div", {}, el("p", { className: "note" }, t("loading")));
  main.replaceChildren(place);
  try {
    await TABS[name].enter(place);
  } catch (error) {
    if (error.status === 401) return place.replaceChildren(); // a login is asked for
    place.replaceChildren(el("p", { className: "note bad", role: "alert" }, error.message),
      button(t("tryAgain"), () => show(name)));
  }
}

async function showState() {
  if (asking || document.hidden) return;
  let found;
  try {
    found = await get("/status");
  } catch (error) {
    return tell(error);
  }
  TABS[current].update?.(found);
  tellState(found);
  ownNetwork.hidden = !found.circuits.own_network;
}
