// One flow beside the list of the Live tab: what became of it, where its time went, what the policy
// says of such a request now, and what a person can do about it.
import { get, post } from "../api.js";
import { curl, escapedUrl } from "../curl.js";
import { openDialog } from "../dialog.js";
import { badge, busy, button, el, field, note, notify, refill } from "../dom.js";
import { answer, exitOf, hop, place } from "../flows.js";
import { familyText } from "../family.js";
import { instantOf, inWords, t, word } from "../i18n.js";
import { picker } from "../picker.js";
import { timeline } from "../timeline.js";
import { bytes } from "../units.js";
import { VERDICTS, verdict } from "./explain.js";

const RULES = 20;
const SETTLED = 120;

// A member that was tried, and the word for why it failed.
function tried(said) {
  const [, name, reason] = said.match(/^(.*):(.*)$/s) ?? [said, said, ""];
  return reason ? `${name}: ${word("reason", reason)}` : name;
}

export class Drawer {
  // `only` is called with a kind and a value to show the flows that have it, `closed` afterwards.
  constructor({ only, closed }) {
    this.only = only;
    this.closed = closed;
    this.chosen = null;
    const onkeydown = ({ key }) => key === "Escape" && this.close();
    this.place = el("aside", { id: "flow", role: "region", "aria-label": t("flowDetails"), tabIndex: -1, hidden: true, onkeydown });
  }

  // `opener` gives the control that gets the focus when this is closed.
  open(one, opener) {
    const isNew = this.chosen !== one;
    this.chosen = one;
    this.opener = opener;
    this.place.hidden = false;
    this.place.parentElement.classList.add("open");
    if (isNew) this.draw(one);
  }

  close() {
    if (!this.chosen) return;
    const hadFocus = this.place.contains(document.activeElement);
    this.chosen = null;
    this.place.hidden = true;
    this.place.parentElement.classList.remove("open");
    this.place.replaceChildren();
    this.closed();
    if (hadFocus) this.opener()?.focus({ preventScroll: true });
  }

  draw(one) {
    this.said = el("div", { role: "status" });
    this.why = el("div");
    const part = (key, ...content) => [el("h3", {}, t(key)), ...content.flat()];
    refill(this.place,
      el("div", { className: "head" },
        el("h2", {}, one.method || one.kind, " ", badge(...answer(one))),
        button("×", () => this.close(), { className: "small", "aria-label": t("close") })),
      el("code", {}, `${place(one)}${one.path}`),
      el("div", { className: "actions" }, this.actions(one)), this.said,
      part("flowTimeline", timeline(one)),
      part("flowRecord", note(t("onlyTheseHint")), this.record(one)),
      part("flowWhy", this.why));
    this.place.scrollTop = 0;
    // Not for each flow that somebody only passes.
    setTimeout(() => this.chosen === one && this.explain(one), SETTLED);
  }

  actions(one) {
    const isAnswered = one.kind === "http" && one.scheme && one.use !== "refuse";
    return [
      button(t("routeHost"), () => this.route(one)),
      button(t("refuseHost"), (event) => busy(event.target, () => this.steer(one, "refuse")), { className: "danger" }),
      isAnswered && button(t("curlCopy"), (event) => busy(event.target, () => this.copy(one))),
    ].filter(Boolean);
  }

  record(one) {
    const only = (kind, value) => button(value, () => this.only(kind, value), {
      className: "link", "aria-label": `${t("onlyThese")}: ${value}`,
    });
    const failed = one.code && [only("reason", one.reason), note(word("reason", one.reason)), note(one.code)];
    const rows = [
      ["time", el("time", { dateTime: one.at }, instantOf(one.at))],
      ["flowHost", only("host", one.host)],
      ["client", one.client && only("client", one.client)],
      ["refused", failed],
      ["flowCut", one.cut && word("cut", one.cut)],
      ["egress", only("exit", exitOf(one))],
      ["flowPool", one.pool && [only("pool", one.pool), note(one.strategy && word("strategy", one.strategy))]],
      ["address", hop(one) && [el("code", {}, hop(one)), " ", one.family ? badge(familyText(one.family), one.family) : null]],
      ["flowSeenAs", one.exit && el("code", {}, one.exit)],
      ["rule", one.unmatched ? t("noRuleMatched") : one.rule && only("rule", one.rule)],
      ["flowTried", one.tried && el("ul", {}, one.tried.split(", ").map((said) => el("li", {}, tried(said))))],
      ["flowReceived", one.received !== null && bytes(one.received)],
      ["flowSent", one.sent !== null && bytes(one.sent)],
      ["flowId", el("code", {}, one.flow_id)],
    ];
    return el("dl", { className: "facts" }, rows.filter(([, value]) => value)
      .map(([key, value]) => [el("dt", {}, t(key)), el("dd", {}, value)]));
  }

  // What the policy says now, which may be another one than when the flow came.
  async explain(one) {
    const isRequest = one.kind === "http" || one.kind === "websocket";
    if (!isRequest) return refill(this.why, note(t("flowWhyRequests")));
    const why = this.why;
    try {
      const method = one.method === "CONNECT" ? "GET" : one.method;
      const found = await post("/explain", { url: escapedUrl(one), method, client: one.client });
      const tried = found.rules.filter((rule) => rule.verdict !== "not reached").slice(-RULES);
      const isSteered = [`use:${one.host}`, `host:${one.host}`].includes(found.rule);
      const clear = (event) => busy(event.target, () => this.steer(one, "clear"));
      const rules = tried.map((rule) => el("li", {},
        rule.rule, " ", badge(word("verdict", rule.verdict), VERDICTS[rule.verdict]), note(inWords(rule, "why"))));
      refill(why, note(t("flowWhyHint")), verdict(found),
        isSteered && button(t("clearHost"), clear, { className: "small", "data-key": "clear-host" }),
        el("ul", { className: "rules" }, rules));
    } catch (error) {
      refill(why, note(error.message, "bad"));
    }
  }

  route(one) {
    const use = picker("use", "", { pools: true, fixed: ["direct"], required: true });
    const content = el("div", {}, field(t("use"), use.input, t("pickHint")), use.list, note(t("routeHint")));
    openDialog(t("routeTitle", { host: one.host }), content, {
      verb: t("routeVerb"), act: () => this.steer(one, use.input.value.trim()),
    });
  }

  async steer(one, use) {
    const { changed } = await post("/steer", { hosts: [one.host], use });
    if (this.chosen !== one) return;
    const done = use === "refuse" ? "steeredRefuse" : "steered";
    refill(this.said, changed.map(({ overruled_by: by, ...change }) =>
      el("div", { className: `outcome ${by ? "warn" : "good"}` },
        el("p", {}, by ? t("overruled", { by }) : t(done, change)),
        use === "clear" || by ? null : note(t("steeredLasts")),
        button(t("undo"), (event) => busy(event.target, () => this.undo(one)), { className: "small" }))));
    await this.explain(one);
  }

  async undo(one) {
    const { undone } = await post("/undo", {});
    const text = t("undone", { what: undone });
    if (this.chosen !== one) return notify(text, "good");
    refill(this.said, el("p", { className: "outcome" }, text));
    this.place.focus({ preventScroll: true });
    await this.explain(one);
  }

  async copy(one) {
    const found = one.proxy ? await get(`/proxies?${new URLSearchParams({ q: one.proxy, limit: 200 })}`) : { items: [] };
    const proxy = found.items.find((item) => item.name === one.proxy) ?? null;
    if (one.proxy && !proxy) return notify(t("curlGone", { name: one.proxy }), "bad");
    const command = curl(one, proxy);
    const isCopied = await navigator.clipboard?.writeText(command).then(() => true, () => false);
    const text = el("textarea", { readOnly: true, rows: 4, value: command, spellcheck: false });
    refill(this.said, el("div", { className: "outcome" },
      field(t(isCopied ? "curlCopied" : "curlShown"), text), note(t("curlHint")),
      proxy?.username ? note(t("curlAccount"), "warn") : null));
    if (!isCopied) text.select();
  }
}
