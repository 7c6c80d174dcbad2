// Address families: what they are called, and what the family of a host literal is, to warn before
// the server says no.
import { t } from "./i18n.js";

export const families = () => [["auto", t("familyAuto")], ["ipv4", t("familyIpv4")], ["ipv6", t("familyIpv6")]];
export const familyText = (family) => Object.fromEntries(families())[family] ?? family;

const OCTET = "(25[0-5]|2[0-4]\\d|1?\\d?\\d)";
const V4 = new RegExp(`^${OCTET}(\\.${OCTET}){3}$`);

// 4, 6, or null for a hostname. IPv4-mapped IPv6 is IPv4.
export function literalFamily(text) {
  const host = text.trim().replace(/^\[|\]$/g, "");
  if (V4.test(host)) return 4;
  if (!host.includes(":")) return null;
  try {
    const canonical = new URL(`http://[${host.split("%")[0]}]/`).hostname.slice(1, -1);
    return canonical.startsWith("::ffff:") ? 4 : 6;
  } catch {
    return null;
  }
}

export function contradicts(host, family) {
  const literal = literalFamily(host);
  return family !== "auto" && literal !== null && family !== `ipv${literal}`;
}
