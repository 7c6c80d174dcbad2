// How a proxy fares, in word and colour: the machine's word, which stands beside the person's.
import { post } from "./api.js";
import { badge, busy, el, note, notify, rowButton } from "./dom.js";
import { inWords, momentOf, seconds, t, word } from "./i18n.js";

const KINDS = { closed: "good", "half-open": "warn", open: "bad", full: "warn", exit: "bad", unusable: "" };
export const STATES = () => Object.keys(KINDS).map((state) => [state, word("state", state)]);
const TICK = 1000;
let ticking = 0;

export const counted = (why) => why.replace(/^(\d+) x /, "$1\u00a0×\u00a0");
const isAway = (now) => now.state === "open" || now.state === "half-open";

export const stateWord = (state) => badge(word("state", state), KINDS[state]);

// The state, why it is not used, and when it is tried again. About what a person has switched off
// no machine has a word.
export function fares(now, status) {
  if (status === "inactive") return ["–"];
  const why = counted(inWords(now, "why"));
  const since = isAway(now) && now.since;
  return [stateWord(now.state), note(since ? t("sinceWhy", { when: momentOf(since), why }) : why), next(now)];
}

// A person's verb: the proxy is used again at once. Nothing where it is in use.
export function resetButton(now, name, done) {
  if (!isAway(now)) return null;
  return rowButton(t("reset"), name, (event) => busy(event.target, async () => {
    await post(`/proxies/${encodeURIComponent(name)}/reset`, {});
    notify(t("resetDone", { name }), "good");
  }).then(done));
}

function next(now) {
  if (!isAway(now)) return null;
  if (now.trial) return note(t("onTrial"));
  const due = performance.now() + (now.retry_in_s ?? 0) * 1000;
  ticking ||= setInterval(tick, TICK);
  return el("p", { className: "note countdown", "data-due": due }, left(due));
}

function left(due) {
  const rest = Math.ceil((due - performance.now()) / 1000);
  return rest > 0 ? t("nextTry", { time: seconds(rest) }) : t("nextTryDue");
}

// Until no countdown is shown any more.
function tick() {
  const shown = document.querySelectorAll(".countdown");
  for (const one of shown) one.textContent = left(Number(one.dataset.due));
  if (shown.length) return;
  clearInterval(ticking);
  ticking = 0;
}
