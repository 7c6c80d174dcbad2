// Elements from data. Text is always text: nothing here parses markup.

export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.includes("-") && key !== "list") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function button(text, onclick, properties = {}) {
  return el("button", { type: "button", onclick, ...properties }, text);
}

export function field(text, control, properties = {}) {
  return el("label", { className: "field", ...properties }, el("span", {}, text), control);
}

export function select(options, value, properties = {}) {
  return el("select", properties, options.map(([key, text]) =>
    el("option", { value: key, selected: key === value }, text)));
}

export function table(heads, rows, caption) {
  return el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head) =>
        head instanceof Node ? head : el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows)));
}

export function cell(...children) {
  return el("td", {}, children);
}

export function badge(text, kind = "") {
  return el("span", { className: `badge ${kind}` }, text);
}

export function notify(text, kind = "") {
  const note = el("p", { className: kind }, text);
  document.getElementById("notices").append(note);
  setTimeout(() => note.remove(), 8000);
}
