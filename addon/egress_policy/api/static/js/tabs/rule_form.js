// The form of a rule.
import { get, patch, pathOf, post } from "../api.js";
import { openDialog } from "../dialog.js";
import { el, field, note, select, tell } from "../dom.js";
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

function open(rule, done) {
  const inline = rule && typeof rule.use !== "string";
  const input = (name, value, properties = {}) => el("input", { name, value: value ?? "", autocomplete: "off", spellcheck: false, ...properties });
  const use = picker(inline ? "" : rule?.use ?? "", {
    name: "use", fixed: ["direct", "refuse"], pools: true, required: !inline, placeholder: inline ? rule.use.name : "",
  });
  const controls = {
    name: input("name", rule?.name, { maxLength: 120 }),
    hosts: input("hosts", rule?.hosts.join(", "), { placeholder: "api.example.com, *.example.org" }),
    clients: input("clients", rule?.clients.join(", "), { placeholder: "192.0.2.0/24" }),
    ports: input("ports", rule?.ports.join(", "), { placeholder: "443", inputMode: "numeric" }),
    filter: input("filter", rule?.filter, { placeholder: "~m POST & ~u /upload" }),
    family: select([["", t("notPinned")], ...families().slice(1)], rule?.family ?? "", { name: "family" }),
    target_family: select([["", t("targetOfProxy")], ...families().slice(1)], rule?.target_family ?? "", { name: "target_family" }),
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
      const some = { hosts: listed(controls.hosts.value), clients: listed(controls.clients.value), ports: numbers(controls.ports.value) };
      const stated = { name: controls.name.value, filter: controls.filter.value.trim(), family: controls.family.value, target_family: controls.target_family.value };
      if (!inline || use.input.value) stated.use = use.input.value.trim();
      for (const [key, value] of Object.entries({ ...some, ...stated })) stated[key] = value.length ? value : null;
      if (rule) await patch("/rules", { id: rule.id, ...stated, name: controls.name.value }, rule.etag);
      else await post("/rules", Object.fromEntries(Object.entries(stated).filter(([, value]) => value !== null)));
      await done();
    },
  });
}
