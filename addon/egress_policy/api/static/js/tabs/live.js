// Flows as they end: which took which egress, and why.
import { liveURL } from "../api.js";
import { badge, button, cell, el, field, table } from "../dom.js";
import { t } from "../i18n.js";

const KEPT = 500;
let source;
let events = [];
let lost = 0;
let paused = false;
let wanted = "";
let place;

export function enter(main) {
  events = [];
  lost = 0;
  paused = false;
  place = el("div", { id: "flows" });
  const pause = button(t("pause"), () => {
    paused = !paused;
    pause.textContent = t(paused ? "resume" : "pause");
    pause.setAttribute("aria-pressed", paused);
    draw();
  }, { "aria-pressed": "false" });
  const filter = el("input", { type: "search", oninput: (event) => {
    wanted = event.target.value.toLowerCase();
    draw();
  } });
  wanted = "";
  main.replaceChildren(el("div", { className: "tools" }, field(t("search"), filter), pause), place);
  source = new EventSource(liveURL);
  source.addEventListener("flow", (event) => {
    events.unshift(JSON.parse(event.data));
    events.length = Math.min(events.length, KEPT);
    if (!paused) draw();
  });
  source.addEventListener("lost", (event) => {
    lost += JSON.parse(event.data).count;
  });
  draw();
}

export function leave() {
  source?.close();
  source = null;
}

function draw() {
  const found = events.filter((one) => !wanted || JSON.stringify(one).toLowerCase().includes(wanted)).slice(0, 200);
  const heads = [t("time"), t("request"), t("egress"), t("rule"), t("labelFamily"), t("address"), t("result")];
  place.replaceChildren(table(heads, found.map(row), t("tab_live")),
    el("p", { className: "note" }, events.length ? t("liveCount", { count: events.length, lost }) : t("liveNothing")));
}

function row(one) {
  const request = [one.method, `${one.scheme ? `${one.scheme}://` : ""}${one.host}:${one.port}`].filter(Boolean).join(" ");
  const result = one.code ? badge(`${t("refused")}: ${one.reason}`, "bad") : badge(String(one.status ?? one.kind), "good");
  return el("tr", { className: one.code ? "refused" : "" },
    cell(new Date(one.at).toLocaleTimeString()), cell(request, el("p", { className: "note" }, one.client)),
    cell(one.proxy || t(`use_${one.use}`), one.pool ? el("p", { className: "note" }, one.pool) : null),
    cell(one.rule), cell(one.family), cell(one.address || "-"), cell(result));
}
