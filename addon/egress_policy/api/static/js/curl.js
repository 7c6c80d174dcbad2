// A flow as a command for a shell: the same request by the same exit, without its headers and body.
// It names no account, of neither proxy nor target.

const SCHEMES = { http: "http", https: "https", socks5: "socks5h" };
const FAMILIES = { ipv4: "-4", ipv6: "-6" };

// One word of a POSIX shell, whatever it holds.
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

export const bracketed = (host) => (host.includes(":") ? `[${host}]` : host);

// The URL of a request; the port only where the scheme does not imply it. What may not stand in a URL
// is escaped: a line end would act where it is pasted.
export function escapedUrl({ scheme, host, port, path }) {
  const implied = { http: 80, https: 443 }[scheme] === port;
  const url = `${scheme || "https"}://${bracketed(host)}${implied ? "" : `:${port}`}${path || "/"}`;
  return url.replace(/[^!-~]+|[\\^`{|}"<>]/gu, (found) => encodeURIComponent(found.toWellFormed()));
}

// `proxy` is that of the API, null for direct.
export function curl(one, proxy) {
  const way = proxy
    ? ["--proxy", `${SCHEMES[proxy.type]}://${bracketed(proxy.host)}:${proxy.port}`]
    : ["--noproxy", "*"];
  const family = FAMILIES[proxy ? proxy.family : one.family];
  const method = { GET: [], HEAD: ["--head"] }[one.method] ?? ["--request", one.method];
  return ["curl", "--globoff", ...(family ? [family] : []), ...way, ...method, escapedUrl(one)].map(quoted).join(" ");
}
