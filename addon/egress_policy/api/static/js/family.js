// What the address family of a host literal is, to warn before the server says no.

// 4, 6, or null for a hostname. IPv4-mapped IPv6 is IPv4.
export function literalFamily(text) {
  const host = text.trim().replace(/^\[|\]$/g, "");
  const v4 = /^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$/;
  if (v4.test(host)) return 4;
  if (!/^[0-9a-f:.]+(%.+)?$/i.test(host) || !host.includes(":")) return null;
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
