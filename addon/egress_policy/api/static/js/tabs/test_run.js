// Tests of many proxies: one line that says how far they are, and what came of them. They go on
// while other tabs are shown.
import { lines } from "../api.js";
import { button, el, note, refill, tell } from "../dom.js";
import { t } from "../i18n.js";

const EVERY = 200;
let run;

// Whether the target may have failed, and not the proxy.
export const mayBlameTarget = ({ fault, target }) => Boolean(target) && (fault === "target" || fault === "undecided");

// Shows the run in another place. `tested` gets results by id, `ended` is called behind the last one,
// `show` where a person wants to see the failed ones.
export function testRun(on) {
  run ??= new TestRun();
  return run.takeTo(on);
}

class TestRun {
  constructor() {
    Object.assign(this, { isOn: false, total: 0, waiting: new Set(), results: new Map() });
  }

  takeTo(on) {
    this.on = on;
    this.place = el("div", { id: "test-run" });
    this.draw();
    return this;
  }

  waits(id) {
    return this.waiting.has(id);
  }

  async start(ids) {
    if (this.isOn) return;
    const stop = new AbortController();
    Object.assign(this, { isOn: true, total: ids.length, good: 0, failed: 0, blamed: new Map(), isStopped: false });
    this.waiting = new Set(ids);
    this.draw(() => {
      this.isStopped = true;
      stop.abort();
    });
    this.tell();
    try {
      for await (const { id, result } of lines("/proxies/tests", { ids }, stop.signal)) this.take(id, result);
    } catch (error) {
      this.isStopped ||= true;
      if (!stop.signal.aborted) tell(error);
    }
    this.isOn = false;
    this.waiting.clear();
    this.draw();
    await this.on.ended();
  }

  take(id, result) {
    this[result.ok ? "good" : "failed"] += 1;
    const { target } = result;
    if (mayBlameTarget(result)) this.blamed.set(target, (this.blamed.get(target) ?? 0) + 1);
    this.waiting.delete(id);
    this.results.set(id, result);
    this.timer ??= setTimeout(() => this.tell(), EVERY);
  }

  // Results come by hundreds a second: they are shown a few times a second.
  tell() {
    this.timer = undefined;
    this.on.tested(this.results);
    this.results.clear();
    if (!this.isOn) return;
    this.bar.value = this.good + this.failed;
    this.line.textContent = this.summary();
  }

  summary() {
    const { good, failed, total, isOn, isStopped } = this;
    const key = isOn || isStopped ? "testsSoFar" : "testsDone";
    return t(key, { count: good + failed, total, good, failed });
  }

  draw(stop) {
    if (!this.total) return refill(this.place);
    this.bar = el("progress", { max: this.total, value: this.good + this.failed, "aria-label": t("progress") });
    this.line = el("strong", {}, this.summary());
    if (stop) this.stop = button(t("stop"), stop, { "data-key": "tests" });
    const close = () => {
      this.total = 0;
      this.draw();
      document.getElementById("test-all")?.focus();
    };
    const ended = [
      this.failed ? button(t("showFailed"), () => this.on.show(), { "data-key": "tests" }) : null,
      button("×", close, { className: "small", "aria-label": t("close") })];
    const [[target, count] = []] = [...(this.blamed ?? [])].sort(([, a], [, b]) => b - a);
    refill(this.place, el("div", { className: "tools bulk run" },
      this.isOn ? this.bar : null, el("span", { role: "status" }, this.line),
      this.isOn ? this.stop : ended,
      this.isOn || !target ? null : note(t("targetsToBlame", { count, target }), "warn")));
  }
}
