// The page: session, language, theme, tabs.
import { call, get, post, remove } from "./api.js";
import { button, el, field, notify, select } from "./dom.js";
import { LANGUAGES, loadLanguage, preferredLanguage, t } from "./i18n.js";
import * as live from "./tabs/live.js";
import * as pools from "./tabs/pools.js";
import * as proxies from "./tabs/proxies.js";
import * as rules from "./tabs/rules.js";
import * as status from "./tabs/status.js";

const TABS = { proxies, rules, pools, live, status };
const main = document.getElementById("main");
const tabs = document.getElementById("tabs");
let current = "proxies";

function theme(value) {
  const dark = value === "dark" || (value === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

function fill(id, options, value, changed) {
  const control = document.getElementById(id);
  control.replaceChildren(...select(options, value).children);
  control.value = value;
  control.onchange = () => {
    localStorage.setItem(id, control.value);
    changed(control.value);
  };
}

async function start() {
  await loadLanguage(preferredLanguage());
  const stored = localStorage.getItem("theme") || "auto";
  theme(stored);
  fill("theme", [["auto", t("themeAuto")], ["light", t("themeLight")], ["dark", t("themeDark")]], stored, theme);
  fill("language", Object.entries(LANGUAGES), document.documentElement.lang, () => location.reload());
  document.getElementById("logout").onclick = async () => {
    await remove("/api/v1/session");
    location.reload();
  };
  document.addEventListener("unauthenticated", showLogin);
  await enter();
}

async function enter() {
  const word = location.hash.slice(1);
  if (word) history.replaceState(null, "", location.pathname);
  try {
    if (word) await post("/api/v1/session", { link: word });
    await call("GET", "/api/v1/session");
  } catch {
    return showLogin();
  }
  showTabs();
}

function showLogin() {
  tabs.hidden = true;
  document.getElementById("logout").hidden = true;
  TABS[current].leave?.();
  if (main.querySelector(".login")) return;
  const token = el("input", { type: "password", autocomplete: "current-password", required: true, id: "token" });
  const problem = el("p", { className: "note bad", role: "alert" });
  main.replaceChildren(el("form", {
    className: "login",
    async onsubmit(event) {
      event.preventDefault();
      try {
        await post("/api/v1/session", { token: token.value.trim() });
      } catch (error) {
        problem.textContent = error.message;
        return;
      }
      showTabs();
    },
  }, el("h2", {}, t("logIn")), field(t("token"), token), el("p", { className: "note" }, t("tokenHint")), problem,
  el("div", { className: "end" }, el("button", { type: "submit", className: "primary" }, t("logIn")))));
  token.focus();
}

function showTabs() {
  tabs.hidden = false;
  document.getElementById("logout").hidden = false;
  const names = Object.keys(TABS);
  tabs.setAttribute("aria-label", t("title"));
  tabs.replaceChildren(...names.map((name) => button(t(`tab_${name}`), () => show(name), {
    role: "tab", id: `tab-${name}`, "aria-controls": "main",
    onkeydown(event) {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = names[(names.indexOf(current) + step + names.length) % names.length];
      show(next);
      document.getElementById(`tab-${next}`).focus();
    },
  })));
  main.setAttribute("role", "tabpanel");
  show(current);
  showState();
}

async function show(name) {
  TABS[current].leave?.();
  current = name;
  for (const tab of tabs.children) {
    const selected = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
  }
  main.setAttribute("aria-labelledby", `tab-${name}`);
  main.replaceChildren(el("p", { className: "note" }, t("loading")));
  try {
    await TABS[name].enter(main);
  } catch (error) {
    main.replaceChildren(el("p", { className: "note bad", role: "alert" }, error.message));
  }
}

async function showState() {
  try {
    const found = await get("/status");
    const good = found.state === "in force" && !found.policy.error && !found.registry?.error;
    const text = found.problem || found.policy.error || found.registry?.error || t("inForce");
    const state = document.getElementById("state");
    state.textContent = text;
    state.className = good ? "good" : "bad";
  } catch (error) {
    if (error.status !== 401) notify(error.message, "bad");
  }
}

start();
