// Labels from /messages/<lang>.json, and the server's sentences from /messages/server/<lang>.json.
// `t` fills what stands in braces.

export const LANGUAGES = {
  en: "English",
  "pt-BR": "Português (Brasil)",
  "zh-CN": "简体中文",
  es: "Español",
  de: "Deutsch",
};
const UNITS = [[90, "second", 1], [5400, "minute", 60], [129_600, "hour", 3600], [Infinity, "day", 86_400]];
// Parameters of sentences that are words of the API, and what makes a label of them.
const WORDS = { reason: (one) => word("reason", one), field: fieldName, conditions: fieldName, default: (one) => word("use", one) };
let messages = {};
let sentences = {};
let language = "en";
let plurals;

export async function loadLanguage(wanted) {
  const files = [`/messages/${wanted}.json`, `/messages/server/${wanted}.json`];
  [messages, sentences] = await Promise.all(files.map(async (file) => (await fetch(file)).json()));
  language = wanted;
  plurals = new Intl.PluralRules(language);
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-label]")) {
    element.textContent = t(element.dataset.label);
  }
}

// With a `count` the label that is meant for that many, `<key>_one` or `<key>_other`.
export function t(key, values = {}) {
  const plural = values.count === undefined ? "other" : plurals.select(values.count);
  const text = messages[key] ?? messages[`${key}_${plural}`] ?? messages[`${key}_other`] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => shown(values[name] ?? whole));
}

// The label of a word that the API has, or that word if the page has no label for it.
export function word(kind, value) {
  return messages[`${kind}_${value.replace(/[ -]/g, "_")}`] ?? value;
}

// What the server says in a field of an object, in the language of the page where its words are
// known here: then `said` has their code and parameters. In English otherwise.
export function inWords(found, name) {
  const said = found.said?.[name];
  return said ? sentence(said) : found[name];
}

// The same for a field with a list of texts.
export const eachInWords = (found, name) => found[name].map((text, number) => {
  const said = found.said?.[`${name}.${number}`];
  return said ? sentence(said) : text;
});

export function sentence({ text, code, params }) {
  const template = sentences[code];
  if (template === undefined) return text;
  return template.replace(/\{(\w+)\}/g, (whole, name) => parameter(name, params[name] ?? whole));
}

function parameter(name, value) {
  if (Array.isArray(value)) return joined(value.map((one) => parameter(name, one)));
  if (typeof value === "object") return sentence(value);
  if (name === "fields") return joined(value.split(/, | and /).map(fieldName));
  return WORDS[name]?.(value) ?? shown(value);
}

// The label of a field that the API calls so: max_connections is maxConnections, host is labelHost.
function fieldName(name) {
  const key = name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
  return messages[key] ?? messages[`label${key[0]?.toUpperCase()}${key.slice(1)}`] ?? name;
}

export const shown = (value) => (typeof value === "number" ? value.toLocaleString(language) : String(value));
export const timeOf = (iso) => new Date(iso).toLocaleTimeString(language);
export const dateOf = (iso) => new Date(iso).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
export const instantOf = (iso) => new Date(iso).toLocaleString(language, { dateStyle: "medium", timeStyle: "medium" });
export const capital = (text) => text.charAt(0).toLocaleUpperCase(language) + text.slice(1);
export const percent = (part) => part.toLocaleString(language, { style: "percent", maximumFractionDigits: 1 });
export const seconds = (value) =>
  value.toLocaleString(language, { style: "unit", unit: "second", unitDisplay: "short", maximumFractionDigits: 0 });

// The time of day, with the day unless that is today.
export function momentOf(iso) {
  const at = new Date(iso);
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? at.toLocaleTimeString(language, { timeStyle: "short" }) : dateOf(iso);
}

// So many seconds from now, or ago if they are negative.
export function fromNow(value) {
  const words = new Intl.RelativeTimeFormat(language, { style: "short" });
  const [, unit, size] = UNITS.find(([most]) => Math.abs(value) < most);
  return words.format(Math.round(value / size), unit);
}
export const ago = (iso) => fromNow(Math.min(-0, (new Date(iso) - Date.now()) / 1000));
export const joined = (texts) => new Intl.ListFormat(language, { type: "unit" }).format(texts);

export function preferredLanguage() {
  const known = Object.keys(LANGUAGES);
  const base = (tag) => tag.split("-")[0].toLowerCase();
  for (const wanted of [localStorage.getItem("language"), ...navigator.languages].filter(Boolean)) {
    const found = known.find((one) => one === wanted) || known.find((one) => base(one) === base(wanted));
    if (found) return found;
  }
  return "en";
}
