// The HTTP API. Whatever is not a success is thrown as a Problem.

const PREFIX = "/api/v1/management";

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || `HTTP ${status}`);
    this.status = status;
    this.body = body;
  }
}

export async function call(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path.startsWith("/api") ? path : PREFIX + path, options);
  if (answer.status === 204) return null;
  const type = answer.headers.get("Content-Type") || "";
  const content = type.includes("json") ? await answer.json() : await answer.text();
  if (answer.ok) return content;
  if (answer.status === 401) document.dispatchEvent(new Event("unauthenticated"));
  throw new Problem(answer.status, content);
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const patch = (path, body, etag) =>
  call("PATCH", path, body, etag ? { "If-Match": `"${etag}"` } : {});
export const put = (path, body) => call("PUT", path, body);
export const remove = (path) => call("DELETE", path);

// All items of a list, page by page.
export async function all(path) {
  const items = [];
  for (;;) {
    const found = await get(`${path}?limit=200&offset=${items.length}`);
    items.push(...found.items);
    if (!found.items.length || items.length >= found.page.total) return items;
  }
}

export const liveURL = `${PREFIX}/flows/live`;
export const exportURL = (format, secrets) =>
  `${PREFIX}/proxies/export?format=${format}${secrets ? "&secrets=1" : ""}`;
