// The form of a rule.
import { get, patch, pathOf, post } from "../api.js";
import { openDialog } from "../dialog.js";
import { el, field, input, note, select, tell } from "../dom.js";
import { families } from "../family.js";
import { t } from "../i18n.js";
import { picker } from "../picker.js";

export async function editRule(id, done) {
  try {
    open(id && (await get(pathOf("rules", id))), done);
  } catch (error) {
    tell(error);
  }
}

const listed = (text) => text.split(/[\s,]+/).filter(Boolean);
const numbers = (text) => listed(text).map((one) => (/^\d+$/.test(one) ? Number(one) : one));

// What is empty clears a condition of a rule that is there, and is no part of a new one.
const nulled = (fields) =>
  Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, value.length ? value : null]));
const filled = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value.length));

function open(rule, done) {
  const inline = rule && typeof rule.use !== "string";
  const use = picker("use", inline ? "" : rule?.use, {
    fixed: ["direct", "refuse"], pools: true, required: !inline, placeholder: inline ? rule.use.name : "",
  });
  const pins = (free) => [["", t(free)], ...families().slice(1)];
  const controls = {
    name: input("name", rule?.name, { maxLength: 120 }),
    hosts: input("hosts", rule?.hosts.join(", "), { placeholder: "api.example.com, *.example.org" }),
    clients: input("clients", rule?.clients.join(", "), { placeholder: "192.0.2.0/24" }),
    ports: input("ports", rule?.ports.join(", "), { placeholder: "443", inputMode: "numeric" }),
    filter: input("filter", rule?.filter, { placeholder: "~m POST & ~u /upload" }),
    family: select(pins("notPinned"), rule?.family ?? "", { name: "family" }),
    target_family: select(pins("targetOfProxy"), rule?.target_family ?? "", { name: "target_family" }),
  };
  const family = field(t("familyDirect"), controls.family);
  const target = field(t("targetFamily"), controls.target_family);
  // Each belongs to another kind of egress.
  const fit = () => {
    family.hidden = use.input.value !== "direct";
    target.hidden = ["direct", "refuse"].includes(use.input.value);
    if (family.hidden) controls.family.value = "";
    if (target.hidden) controls.target_family.value = "";
  };
  use.input.addEventListener("input", fit);
  fit();
  const content = el("div", { className: "form" },
    field(t("labelName"), controls.name, "", { className: "field wide" }),
    note(t("conditionsHint"), "wide"),
    field(t("hosts"), controls.hosts), field(t("clients"), controls.clients),
    field(t("ports"), controls.ports), field(t("filter"), controls.filter),
    field(t("use"), use.input, t("useHint"), { className: "field wide" }), use.list, family, target);
  openDialog(t(rule ? "editRule" : "addRule"), content, {
    reload: () => editRule(rule.id, done),
    async act() {
      const texts = Object.fromEntries(Object.entries(controls).map(([key, control]) => [key, control.value.trim()]));
      const { name, ...rest } = texts;
      const conditions = { hosts: listed(texts.hosts), clients: listed(texts.clients), ports: numbers(texts.ports) };
      const fields = { ...rest, ...conditions, use: use.input.value.trim() };
      if (inline && !fields.use) delete fields.use;
      if (rule) await patch("/rules", { id: rule.id, name, ...nulled(fields) }, rule.etag);
      else await post("/rules", { name, ...filled(fields) });
      await done();
    },
  });
}
