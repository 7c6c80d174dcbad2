// The form of a proxy.
import { get, patch, pathOf, post } from "../api.js";
import { openDialog } from "../dialog.js";
import { el, field, input, select, tell, textarea } from "../dom.js";
import { contradicts, families } from "../family.js";
import { t } from "../i18n.js";

const PORTS = { http: 8080, https: 443, socks5: 1080 };
const NEW = {
  type: "http", port: PORTS.http, family: "auto", status: "active", plain_http: "forward",
  health: "watch", max_connections: 0, exit_in: [], exit_enforce: false, tags: [],
};

// What the API has now, not what a list showed a while ago.
export async function editProxy(id, done) {
  try {
    open(id && (await get(pathOf("proxies", id))), done);
  } catch (error) {
    tell(error);
  }
}

function open(proxy, done) {
  const at = proxy || NEW;
  const isRare = at.target_family || at.plain_http === "connect" || at.health === "ignore" ||
    at.max_connections || at.exit_family || at.exit_in.length;
  const isSet = Boolean(at.password?.set);
  const text = (name, properties) => input(name, at[name], properties);
  const targets = [["", t("targetNone")], ...families().slice(1)];
  const plainWays = [["forward", t("plain_forward")], ["connect", t("plain_connect")]];
  const controls = {
    name: text("name", { required: true, maxLength: 120 }),
    type: select([["http", "HTTP"], ["https", "HTTPS"], ["socks5", "SOCKS5"]], at.type, { name: "type" }),
    host: text("host", { required: true, maxLength: 255, placeholder: "proxy.example.com" }),
    port: text("port", { type: "number", min: 1, max: 65535 }),
    family: select(families(), at.family, { name: "family", "aria-describedby": "family-hint family-warning" }),
    username: text("username"),
    password: input("password", "", {
      type: "password", autocomplete: "new-password", placeholder: isSet ? t("passwordSet") : "",
    }),
    status: select([["active", t("active")], ["inactive", t("inactive")]], at.status, { name: "status" }),
    region: text("region", { maxLength: 64 }),
    target_family: select(targets, at.target_family ?? "", { name: "target_family" }),
    plain_http: select(plainWays, at.plain_http, { name: "plain_http" }),
    health: select([["watch", t("health_watch")], ["ignore", t("health_ignore")]], at.health, { name: "health" }),
    max_connections: text("max_connections", { type: "number", min: 0, max: 1000000 }),
    exit_family: select([["", t("exitAny")], ...families().slice(1)], at.exit_family ?? "", { name: "exit_family" }),
    exit_in: input("exit_in", at.exit_in.join(", "), { placeholder: "192.0.2.0/24, 2001:db8::/32" }),
    tags: input("tags", at.tags.join(", ")),
    notes: textarea("notes", at.notes, { maxLength: 1000, rows: 2 }),
  };
  const enforce = el("input", { type: "checkbox", name: "exit_enforce", checked: at.exit_enforce });
  const drop = el("input", { type: "checkbox", onchange: () => { controls.password.disabled = drop.checked; } });
  const plain = field(t("plainHttp"), controls.plain_http);
  const warning = el("p", { className: "note warn", role: "alert", id: "family-warning" });
  const family = field(t("labelFamily"), controls.family);
  family.append(el("span", { className: "note", id: "family-hint" }, t("familyHint")), warning);

  const warn = () => {
    warning.textContent = contradicts(controls.host.value, controls.family.value) ? t("familyContradiction") : "";
    plain.hidden = controls.type.value === "socks5";
    if (plain.hidden) controls.plain_http.value = "forward";
  };
  let port = controls.port.value;
  controls.type.addEventListener("change", () => {
    if (!proxy && controls.port.value === port) controls.port.value = port = String(PORTS[controls.type.value]);
  });
  for (const one of [controls.host, controls.family, controls.type]) one.addEventListener("input", warn);
  warn();

  const content = el("div", { className: "form" },
    field(t("labelName"), controls.name, "", { className: "field wide" }),
    field(t("labelType"), controls.type), field(t("labelPort"), controls.port),
    field(t("labelHost"), controls.host, "", { className: "field wide" }), family,
    field(t("username"), controls.username),
    el("div", {}, field(t("password"), controls.password, isSet ? t("keepPassword") : ""),
      isSet ? el("label", { className: "check" }, drop, t("dropPassword")) : null),
    field(t("status"), controls.status), field(t("region"), controls.region),
    field(t("tags"), controls.tags, t("tagsHint"), { className: "field wide" }),
    field(t("notes"), controls.notes, "", { className: "field wide" }),
    el("details", { className: "wide", open: Boolean(isRare) }, el("summary", {}, t("more")),
      el("div", { className: "form" },
      field(t("targetFamily"), controls.target_family, t("targetFamilyHint")), plain,
      field(t("health"), controls.health),
      field(t("maxConnections"), controls.max_connections, t("maxConnectionsHint")),
      field(t("exitFamily"), controls.exit_family, t("exitHint")), field(t("exitIn"), controls.exit_in),
      el("div", { className: "field wide" }, el("label", { className: "check" }, enforce, t("exitEnforce"))))));
  family.classList.add("wide");

  openDialog(t(proxy ? "editProxy" : "addProxy"), content, {
    reload: () => editProxy(proxy.id, done),
    async act() {
      const fields = Object.fromEntries(Object.entries(controls).map(([key, control]) => [key, control.value]));
      if (fields.port === "") delete fields.port;
      else fields.port = Number(fields.port);
      fields.max_connections = Number(fields.max_connections);
      fields.target_family = fields.target_family || null;
      fields.exit_family = fields.exit_family || null;
      fields.exit_in = fields.exit_in.split(/[\s,]+/).filter(Boolean);
      fields.tags = fields.tags.split(/[\s,]+/).filter(Boolean);
      fields.exit_enforce = enforce.checked;
      if (drop.checked) fields.password = "";
      else if (!fields.password) delete fields.password;
      if (proxy) await patch("/proxies", { id: proxy.id, ...changed(fields, proxy) }, proxy.etag);
      else await post("/proxies", fields);
      await done();
    },
  });
}

function changed(fields, proxy) {
  const isNew = ([key, value]) => key === "password" || String(value) !== String(proxy[key]);
  return Object.fromEntries(Object.entries(fields).filter(isNew));
}
