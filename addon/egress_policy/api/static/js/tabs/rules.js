// Rules in their order, assignments, and the explain box.
import { all, patch, post, put, remove } from "../api.js";
import { openDialog } from "../dialog.js";
import { badge, button, cell, el, field, notify, select, table } from "../dom.js";
import { t } from "../i18n.js";

let place;
let rules = [];

export async function enter(main) {
  place = el("div");
  main.replaceChildren(explainBox(), el("div", { className: "tools" },
    button(t("addRule"), () => edit(null), { className: "primary", id: "add-rule" }),
    button(t("assign"), assign)), place);
  await load();
}

async function load() {
  rules = await all("/rules");
  const assigned = await all("/proxies/assignments");
  const own = rules.filter((rule) => rule.source === "registry");
  place.replaceChildren(
    table([t("rule"), t("conditions"), t("use"), t("actions")], rules.map((rule) => row(rule, own)), t("tab_rules")),
    el("h2", {}, t("assignments")),
    table([t("scope"), t("scopeId"), t("proxy"), t("actions")], assigned.map(assignmentRow), t("assignments")));
}

function conditions(rule) {
  const found = [...rule.hosts, ...rule.clients, ...rule.ports.map((port) => `:${port}`), rule.filter].filter(Boolean);
  return found.length ? found.join(", ") : t("everything");
}

function row(rule, own) {
  const use = typeof rule.use === "string" ? rule.use : rule.use.name;
  const problem = rule.problem || rule.refuses;
  const cells = [
    cell(rule.label, rule.source === "file" ? el("p", { className: "note" }, t("fromFile")) : null),
    cell(conditions(rule)),
    cell(badge(use, use === "refuse" || problem ? "bad" : ""), rule.family ? ` ${rule.family}` : "",
      problem ? el("p", { className: "note bad" }, problem) : null),
  ];
  if (rule.source === "file") return el("tr", {}, cells, cell(""));
  const index = own.indexOf(rule);
  const line = el("tr", {
    draggable: true,
    ondragstart: (event) => { event.dataTransfer.setData("text/plain", rule.id); line.classList.add("dragged"); },
    ondragend: () => line.classList.remove("dragged"),
    ondragover: (event) => { event.preventDefault(); line.classList.add("over"); },
    ondragleave: () => line.classList.remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      move(event.dataTransfer.getData("text/plain"), rule.id);
    },
  }, cells, el("td", { className: "actions" },
    button("↑", () => move(rule.id, own[index - 1].id), { className: "small", disabled: index === 0, "aria-label": t("moveUp", { name: rule.label }) }), " ",
    button("↓", () => move(rule.id, own[index + 2]?.id ?? null), { className: "small", disabled: index === own.length - 1, "aria-label": t("moveDown", { name: rule.label }) }), " ",
    button(t("edit"), () => edit(rule), { className: "small" }), " ",
    button(t("delete"), () => confirmDelete(rule), { className: "small danger" })));
  return line;
}

async function move(id, before) {
  if (id === before) return;
  try {
    await patch("/rules", { id, before });
  } catch (error) {
    notify(error.message, "bad");
  }
  await load();
}

function confirmDelete(rule) {
  openDialog(t("delete"), el("p", {}, t("confirmDelete", { name: rule.label })), {
    verb: t("delete"), danger: true,
    async act() {
      await remove(`/rules?id=${encodeURIComponent(rule.id)}`);
      await load();
    },
  });
}

const listed = (text) => text.split(/[\s,]+/).filter(Boolean);

async function edit(rule) {
  const names = [...(await all("/proxies")), ...(await all("/pools"))].map((one) => one.name);
  const inline = rule && typeof rule.use !== "string";
  const input = (value, properties = {}) => el("input", { value: value || "", ...properties });
  const controls = {
    name: input(rule?.name, { maxLength: 120 }),
    hosts: input(rule?.hosts.join(", "), { placeholder: "api.example.com, *.example.org" }),
    clients: input(rule?.clients.join(", "), { placeholder: "192.0.2.0/24" }),
    ports: input(rule?.ports.join(", "), { placeholder: "443" }),
    filter: input(rule?.filter, { placeholder: "~m POST" }),
    use: inline ? null : select(["direct", "refuse", ...names].map((name) => [name, name]), rule?.use || "direct"),
    family: select([["", "-"], ["auto", t("familyAuto")], ["ipv4", t("familyIpv4")], ["ipv6", t("familyIpv6")]], rule?.family || ""),
  };
  const content = el("div", { className: "form" },
    field(t("labelName"), controls.name), field(t("hosts"), controls.hosts), field(t("clients"), controls.clients),
    field(t("ports"), controls.ports), field(t("filter"), controls.filter),
    inline ? el("p", { className: "note" }, rule.use.name) : field(t("use"), controls.use),
    field(t("familyDirect"), controls.family));
  openDialog(t(rule ? "editRule" : "addRule"), content, {
    async act() {
      const lists = { hosts: listed(controls.hosts.value), clients: listed(controls.clients.value), ports: listed(controls.ports.value).map(Number) };
      const stated = { name: controls.name.value, family: controls.family.value || null };
      for (const [key, value] of Object.entries(lists)) if (value.length || rule) stated[key] = value.length ? value : null;
      if (controls.filter.value || rule) stated.filter = controls.filter.value || null;
      if (controls.use) stated.use = controls.use.value;
      if (rule) await patch("/rules", { id: rule.id, ...stated }, rule.etag);
      else await post("/rules", stated);
      await load();
    },
  });
}

async function assign() {
  const names = (await all("/proxies")).filter((one) => one.source === "registry");
  const scope = select(["global", "host", "client", "user", "filter"].map((one) => [one, one]), "host");
  const id = el("input", { placeholder: "*.example.org" });
  const proxy = select(names.map((one) => [one.id, one.name]), names[0]?.id);
  openDialog(t("assign"), el("div", { className: "form" },
    field(t("scope"), scope), field(t("scopeId"), id), field(t("proxy"), proxy)), {
    async act() {
      const scopeId = scope.value === "global" ? null : id.value;
      await put("/proxies/assignments", { scope: scope.value, scopeId, proxyId: proxy.value });
      await load();
    },
  });
}

function assignmentRow(one) {
  return el("tr", {}, cell(one.scope), cell(one.scopeId), cell(one.proxy),
    el("td", { className: "actions" }, button(t("clear"), async () => {
      await put("/proxies/assignments", { scope: one.scope, scopeId: one.scopeId, proxyId: null });
      await load();
    }, { className: "small danger", "aria-label": `${t("clear")} ${one.scope} ${one.scopeId}` })));
}

function explainBox() {
  const url = el("input", { type: "url", required: true, placeholder: "https://www.example.org/", id: "explain-url" });
  const method = el("input", { value: "GET", size: 6 });
  const client = el("input", { value: "127.0.0.1", size: 12 });
  const answer = el("div", { "aria-live": "polite", id: "explanation" });
  return el("form", {
    async onsubmit(event) {
      event.preventDefault();
      try {
        const found = await post("/explain", { url: url.value, method: method.value, client: client.value });
        answer.replaceChildren(...explained(found));
      } catch (error) {
        answer.replaceChildren(el("p", { className: "note bad" }, error.message));
      }
    },
  }, el("h2", {}, t("explain")), el("div", { className: "tools" }, field("URL", url), field(t("method"), method),
    field(t("client"), client), el("button", { type: "submit" }, t("explain"))), answer);
}

function explained(found) {
  const ways = found.egresses.map((one) => `${one.name} (${one.type}://${one.host}:${one.port}, ${one.family})`).join(" | ");
  const first = found.outcome === "refuse" ? el("p", { className: "bad" }, `${t("refused")}: ${found.code} ${found.reason}. ${found.detail}`)
    : el("p", { className: "good" }, `${found.rule} → ${ways || found.why}`);
  const tried = found.rules.filter((one) => one.verdict !== "not reached").slice(-50);
  return [first, table([t("rule"), t("verdict"), t("why")],
    tried.map((one) => el("tr", {}, cell(one.rule), cell(one.verdict), cell(one.why))), t("explain"))];
}
