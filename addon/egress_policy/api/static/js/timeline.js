// Where the time of a flow went, one bar for each of its parts.
import { svg } from "./charts.js";
import { el, note } from "./dom.js";
import { t } from "./i18n.js";
import { milliseconds } from "./units.js";

// The parts in their order, each `[label, ms]`. A connection that was there already took nothing of
// this flow's time.
function parts(one) {
  const opening = [["timeDns", one.dns_ms], ["timeConnect", one.connect_ms], ["timeHandshake", one.handshake_ms]];
  const answer = [["timeFirstByte", one.first_byte_ms], ["timeAnswer", one.answer_ms]];
  const known = (all) => all.filter(([, ms]) => ms !== null);
  return { opening: known(opening), answer: one.code ? [] : known(answer) };
}

export function timeline(one) {
  const { opening, answer } = parts(one);
  const shown = one.reused ? answer : [...opening, ...answer];
  const whole = Math.max(0.1, shown.reduce((sum, [, ms]) => sum + ms, 0));
  let begun = 0;
  const rows = shown.flatMap(([key, ms]) => {
    const at = begun;
    begun += ms;
    return [el("dt", {}, t(key)), el("dd", {}, bar(at / whole, ms / whole), milliseconds(ms))];
  });
  const before = opening.map(([key, ms]) => `${t(key)} ${milliseconds(ms)}`).join(" · ");
  return [
    rows.length ? el("dl", { className: "timeline" }, rows) : note(t("timeNothing")),
    one.reused ? note(t("timeReused", { times: before || "–" })) : null,
    one.duration_ms === null ? null : note(t("timeWhole", { time: milliseconds(one.duration_ms) })),
  ];
}

// The numbers beside it say the same.
function bar(start, share) {
  const percents = (part) => `${Math.min(100, part * 100).toFixed(2)}%`;
  return svg("svg", { "aria-hidden": "true" },
    svg("rect", { x: percents(start), y: 0, height: "100%", width: percents(Math.max(share, 0.005)) }));
}
