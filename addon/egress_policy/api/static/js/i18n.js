// Labels from /messages/<lang>.json. `t` fills what stands in braces.

export const LANGUAGES = { en: "English", "pt-BR": "Português (Brasil)", "zh-CN": "简体中文", es: "Español", de: "Deutsch" };
let messages = {};

export async function loadLanguage(language) {
  const answer = await fetch(`/messages/${language}.json`);
  messages = await answer.json();
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-label]")) {
    element.textContent = t(element.dataset.label);
  }
}

export function t(key, values = {}) {
  const text = messages[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export function preferredLanguage() {
  const stored = localStorage.getItem("language");
  const wanted = [stored, ...navigator.languages].filter(Boolean);
  for (const one of wanted) {
    const known = Object.keys(LANGUAGES);
    const found = known.find((l) => l === one) || known.find((l) => l.split("-")[0] === one.split("-")[0]);
    if (found) return found;
  }
  return "en";
}
