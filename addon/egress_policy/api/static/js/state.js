// Whether all is well, in a few words: the header and the Status tab say the same.
import { badge } from "./dom.js";
import { t } from "./i18n.js";

// The words, and their kind. Without a status the API does not answer.
export function stateOf(found) {
  if (!found) return [t("stateUnknown"), "warn"];
  if (found.problem) return [t("refusesAll"), "bad"];
  if (found.policy.error) return [t("fileBroken"), "bad"];
  if (found.registry?.error) return [t("registryLost"), "bad"];
  return [t("inForce"), "good"];
}

export function stateBadge(found) {
  const made = badge(...stateOf(found));
  made.classList.add("state");
  return made;
}

// Wherever it stands at the moment.
export function tellState(found) {
  const [text, kind] = stateOf(found);
  for (const place of document.querySelectorAll(".state")) {
    if (place.textContent !== text) place.textContent = place.title = text;
    place.className = `badge state ${kind}`;
    place.hidden = false;
  }
}
