// The HTTP API. Whatever is not a success is thrown as a Problem.
import { inWords, sentence, word } from "./i18n.js";
import { keyHeader } from "./key.js";

const PREFIX = "/api/v1/management";

export class Problem extends Error {
  constructor(status, body) {
    const errors = (body.errors || []).map(fieldError);
    const label = body.code && word("error", body.code);
    const several = errors.length > 1 && errors.map((one) => one.message).join("; ");
    super(label && label !== body.code ? label : several || inWords(body, "detail") || `HTTP ${status}`);
    this.status = status;
    this.errors = errors;
  }
}

// `fault` is for a place beside the field, which need not be named there.
function fieldError(one) {
  const said = one.said?.message;
  const message = inWords(one, "message");
  const fault = said?.code === "field_fault" && said.params.fault;
  return { field: one.field, message, fault: fault ? fault.text ? sentence(fault) : fault : message };
}

// The answer as soon as its head is there. Sends the document `reachable`, `unreachable` and
// `unauthenticated`, for every caller.
export async function open(method, path, body, headers = {}, signal = undefined) {
  const options = { method, headers: { ...headers, ...keyHeader() }, credentials: "same-origin", signal };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await reached(fetch(path.startsWith("/api") ? path : PREFIX + path, options), signal);
  tell("reachable");
  if (answer.ok) return answer;
  if (answer.status === 401) tell("unauthenticated");
  throw new Problem(answer.status, await reached(answer.json(), signal));
}

export async function call(method, path, body, headers = {}) {
  const answer = await open(method, path, body, headers);
  if (answer.status === 204) return null;
  const isJson = (answer.headers.get("Content-Type") || "").includes("json") && !path.includes("/export");
  return reached(isJson ? answer.json() : answer.text());
}

// The objects of an answer that has one in each line, as they come.
export async function* lines(path, body, signal) {
  const answer = await open("POST", path, body, {}, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reached(reader.read(), signal);
    if (done) return;
    const found = (text + value).split("\n");
    text = found.pop();
    yield* found.map((one) => JSON.parse(one));
  }
}

async function reached(promise, signal) {
  try {
    return await promise;
  } catch {
    if (!signal?.aborted) tell("unreachable");
    throw new Problem(0, { code: "UNREACHABLE" });
  }
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

export const LIVE = "/flows/live";
