// Server-sent events over fetch: unlike an EventSource it can name the session's key.
import { open } from "./api.js";

const AGAIN = 2000;
const SILENCE = 40_000;

// Follows a path until `close` is called on what it returns, and connects again when it is cut.
// `on` has a function for each kind of event, and `opened` and `cut`.
export function follow(path, on) {
  const control = new AbortController();
  follows(path, on, control.signal);
  return { close: () => control.abort() };
}

async function follows(path, on, closed) {
  let last = "";
  while (!closed.aborted) {
    try {
      const silent = new AbortController();
      const signal = AbortSignal.any([closed, silent.signal]);
      const answer = await open("GET", path, undefined, last ? { "Last-Event-ID": last } : {}, signal);
      on.opened();
      for await (const event of events(answer.body.getReader(), () => silent.abort())) {
        last = event.id || last;
        on[event.event]?.(JSON.parse(event.data));
      }
    } catch {
      // Cut, silent, turned away or closed: all but the last is tried again.
    }
    if (closed.aborted) return;
    on.cut();
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

// The server says something every now and then; `silent` is called when it does not.
async function* events(reader, silent) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const timer = setTimeout(silent, SILENCE);
    const { value, done } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    const blocks = (text + decoder.decode(value, { stream: true })).split("\n\n");
    text = blocks.pop();
    yield* blocks.map(fields).filter((event) => event.data);
  }
}

const fields = (block) => Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
