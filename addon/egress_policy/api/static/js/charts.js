// Drawings of numbers over time: bars that stand on each other, and small ones for a row of a table.
// Widths come from the style sheet: a drawing stretches, its texts stand beside it.
import { el, plain, refill } from "./dom.js";
import { shown, t } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100;
const STEPS = [1, 2, 3, 4, 5, 6, 8, 10];
let made = 0;

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter(Boolean));
  return element;
}

const stretched = (width, height, properties, ...children) =>
  svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", ...properties }, ...children);
const total = (values) => values.reduce((sum, value) => sum + value, 0);
const fixed = (value) => Number(value.toFixed(2));

// The end of a scale: a round number, at least as high as the values.
export function roundUp(highest) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, highest)));
  return power * STEPS.find((step) => step * power >= highest);
}

// Values of several series over the same times. `fill` shows other ones and keeps what is pointed at.
// A series is { name, kind, values }; `kind` is the class that has its colour.
export class Bars {
  constructor(caption, timeText) {
    Object.assign(this, { caption, timeText, at: null, times: [], series: [] });
    const id = `chart-${(made += 1)}`;
    this.period = el("span", { className: "period" });
    this.names = el("ul", { className: "legend" });
    this.top = el("span");
    this.drawing = el("div", {
      className: "drawing", onpointermove: (event) => this.point(event), onpointerdown: (event) => this.point(event),
      onpointerleave: () => this.show(null),
    });
    this.axis = el("div", { className: "axis", "aria-hidden": "true" });
    this.body = el("div", { className: "minutes scroll", tabIndex: 0, role: "region", "aria-label": caption });
    this.details = el("details", { ontoggle: () => this.list() }, el("summary", {}, t("asTable")), this.body);
    this.label = { role: "img", "aria-label": plain(caption), "aria-describedby": id };
    this.element = el("figure", { className: "chart" },
      el("div", { className: "scale" }, this.period, this.top), this.drawing, this.axis,
      el("figcaption", { id }, this.names), this.details);
  }

  fill(times, series) {
    Object.assign(this, { times, series });
    this.scale = roundUp(Math.max(...times.map((_, at) => total(series.map((one) => one.values[at])))));
    this.top.textContent = shown(this.scale);
    const floor = times.map(() => 0);
    const bars = series.map((one) => svg("path", { class: one.kind, d: this.bars(one.values, floor) }));
    this.mark = svg("rect", { class: "mark", y: 0, width: 1, height: HEIGHT });
    refill(this.drawing, stretched(times.length, HEIGHT, this.label, this.mark, ...bars));
    const marks = [0, Math.floor(times.length / 2), times.length - 1].map((at) => this.timeText(times[at]));
    refill(this.axis, ...marks.map((text) => el("span", {}, text)));
    this.show(this.at);
    this.list();
  }

  // What stands on `floor`, which grows by it.
  bars(values, floor) {
    const height = (value) => (value / this.scale) * HEIGHT;
    return values.map((value, at) => {
      if (!value) return "";
      floor[at] += value;
      return `M${at + 0.1} ${fixed(HEIGHT - height(floor[at]))}h.8v${fixed(height(value))}h-.8z`;
    }).join("");
  }

  point({ offsetX }) {
    const at = Math.floor((offsetX / this.drawing.clientWidth) * this.times.length);
    this.show(Math.min(Math.max(at, 0), this.times.length - 1));
  }

  // The numbers of one time, or the sums of all.
  show(at) {
    this.at = at;
    const isAll = at === null;
    this.mark.setAttribute("visibility", isAll ? "hidden" : "visible");
    this.mark.setAttribute("x", at ?? 0);
    this.period.textContent = isAll ? this.caption : this.timeText(this.times[at]);
    refill(this.names, this.series.map(({ name, kind, values }) => el("li", {},
      el("span", { className: `swatch ${kind}` }), name, " ", el("b", {}, shown(isAll ? total(values) : values[at])))));
  }

  // The same as a table, from the latest on, where somebody has opened it.
  list() {
    if (!this.details.open) return;
    const head = (text) => el("th", { scope: "col" }, text);
    const rows = this.times.map((time, at) => el("tr", {}, el("th", { scope: "row" }, this.timeText(time)),
      this.series.map(({ values }) => el("td", { className: "number" }, shown(values[at]))))).reverse();
    refill(this.body, el("table", { "aria-label": this.caption },
      el("thead", {}, el("tr", {}, head(t("time")), this.series.map(({ name }) => head(name)))), el("tbody", {}, rows)));
  }
}

// A line through values; where one is missing (null) it is interrupted.
export function line(values, label) {
  const highest = Math.max(1e-9, ...values);
  const parts = [];
  values.forEach((value, at) => {
    if (value === null) return;
    const point = `${at + 0.5} ${fixed(19 - (value / highest) * 17)}`;
    parts.push(values[at - 1] == null ? `M${point}h.01` : `L${point}`);
  });
  return spark(values.length, label, svg("path", { class: "line", d: parts.join("") }));
}

// A bar for each value.
export function columns(values, label) {
  const highest = Math.max(1e-9, ...values);
  const bar = (value, at) => (value ? `M${at + 0.1} 20v${fixed(Math.min(-1, (value / highest) * -18))}h.8V20z` : "");
  return spark(values.length, label, svg("path", { class: "bars", d: values.map(bar).join("") }));
}

// A part of a whole, as a bar.
export const share = (part) => stretched(100, 1, { class: "share", "aria-hidden": "true" },
  svg("path", { class: "bars", d: `M0 0h${fixed(part * 100)}v1H0z` }));

const spark = (width, label, drawn) =>
  stretched(width, 20, { class: "spark", role: "img", "aria-label": plain(label) }, drawn);
