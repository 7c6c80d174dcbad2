// How a proxy has fared of late: what polls have shown, as a small drawing. It is kept in this page
// alone, and only so much of it.
import { svg } from "./charts.js";
import { el } from "./dom.js";
import { percent, t } from "./i18n.js";
import { milliseconds } from "./units.js";

const SAMPLES = 60;
const PROXIES = 500;
const [WIDTH, HEIGHT, FOOT] = [120, 26, 5];
const known = new Map();

// Takes in what a poll has shown of a proxy. Counters that fall are those of another process.
export function sample({ proxy, ewma_ms: ms, successes, failures }) {
  const before = known.get(proxy);
  const grown = (now, then) => (now >= then ? now - then : now);
  const samples = before?.samples ?? [];
  samples.push({
    ms, good: before ? grown(successes, before.successes) : 0, bad: before ? grown(failures, before.failures) : 0,
  });
  if (samples.length > SAMPLES) samples.shift();
  known.delete(proxy);
  known.set(proxy, { samples, successes, failures });
  if (known.size > PROXIES) known.delete(known.keys().next().value);
}

// For a proxy of which there is a sample: its hop time as a line, and at the foot where attempts worked and where they failed.
export function trend({ proxy, ewma_ms: ms, successes, failures }) {
  const attempts = successes + failures;
  const words = [
    attempts ? t("worked", { part: percent(successes / attempts), count: attempts }) : t("noAttempt"),
    ms === null ? "" : t("hopTime", { ms: milliseconds(ms) }),
  ].filter(Boolean);
  const { samples } = known.get(proxy);
  return [...words.map((one) => el("div", {}, one)), attempts ? drawing(samples, words.join(", ")) : null];
}

function drawing(samples, label) {
  const step = WIDTH / SAMPLES;
  const highest = Math.max(1, ...samples.map((one) => one.ms ?? 0));
  const x = (at) => WIDTH - (samples.length - at) * step;
  const y = (ms) => (HEIGHT - FOOT - 1) * (1 - ms / highest) + 1;
  const points = samples.map((one, at) => one.ms !== null && `${x(at) + step / 2},${y(one.ms).toFixed(1)}`);
  const marks = samples.map((one, at) => (one.good || one.bad) && svg("rect", {
    class: one.bad ? "bad" : "good", x: x(at), y: HEIGHT - FOOT + 1, width: step, height: FOOT - 1,
  }));
  return svg("svg", { class: "trend", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    svg("polyline", { points: points.filter(Boolean).join(" ") }), ...marks.filter(Boolean));
}
