// A flow that has ended, in words: what the list of the Live tab and its drawer both show.
import { bracketed } from "./curl.js";
import { t } from "./i18n.js";

// By what one can show only some flows: the label of it, and what a flow has of it.
export const KINDS = {
  host: ["flowHost", (one) => one.host],
  client: ["client", (one) => one.client],
  exit: ["egress", exitOf],
  pool: ["flowPool", (one) => one.pool],
  rule: ["rule", (one) => one.rule],
  reason: ["reason", (one) => one.reason],
};

export function exitOf(one) {
  return one.proxy || t(`use_${one.planned || one.use}`);
}

// The address that was dialled.
export const hop = (one) => (one.address ? `${bracketed(one.address)}${one.hop_port ? `:${one.hop_port}` : ""}` : "");

// Where it went, with the port where the scheme does not imply it.
export function place({ scheme, host, port }) {
  const implied = { http: 80, https: 443 }[scheme] === port;
  return `${scheme ? `${scheme}://` : ""}${bracketed(host)}${implied ? "" : `:${port}`}`;
}

// What came back, and its kind: a request without an answer has failed, a connection has none.
export function answer(one) {
  if (one.status === null) return one.method ? [t("failed"), "bad"] : [one.kind, "good"];
  return [String(one.status), one.status >= 500 ? "bad" : one.status >= 400 ? "warn" : "good"];
}
