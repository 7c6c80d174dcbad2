// The HTTP API. Whatever is not a success is thrown as a Problem.
import { word } from "./i18n.js";

const PREFIX = "/api/v1/management";

export class Problem extends Error {
  constructor(status, body) {
    const label = body.code && word("error", body.code);
    super(label && label !== body.code ? label : body.detail || `HTTP ${status}`);
    this.status = status;
    this.errors = body.errors || [];
  }
}

// Tells the document `reachable`, `unreachable` and `unauthenticated`, whoever asked.
export async function call(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  let content;
  try {
    answer = await fetch(path.startsWith("/api") ? path : PREFIX + path, options);
    if (answer.status === 204) return null;
    const type = answer.headers.get("Content-Type") || "";
    content = type.includes("json") && !path.includes("/export") ? await answer.json() : await answer.text();
  } catch {
    tell("unreachable");
    throw new Problem(0, { code: "UNREACHABLE" });
  }
  tell("reachable");
  if (answer.ok) return content;
  if (answer.status === 401) tell("unauthenticated");
  throw new Problem(answer.status, typeof content === "string" ? JSON.parse(content) : content);
}

const tell = (what) => document.dispatchEvent(new Event(what));
const match = (etag) => (etag ? { "If-Match": `"${etag}"` } : {});

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const patch = (path, body, etag) => call("PATCH", path, body, match(etag));
export const put = (path, body) => call("PUT", path, body);
export const remove = (path) => call("DELETE", path);

export const pathOf = (kind, id) => `/${kind}?id=${encodeURIComponent(id)}`;

// All items that are found, page by page.
export async function all(path, query = {}) {
  const items = [];
  for (;;) {
    const found = await get(`${path}?${new URLSearchParams({ ...query, limit: 200, offset: items.length })}`);
    items.push(...found.items);
    if (!found.items.length || items.length >= found.page.total) return items;
  }
}

export const liveURL = `${PREFIX}/flows/live`;
