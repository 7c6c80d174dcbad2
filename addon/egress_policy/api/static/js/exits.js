// Exits of proxies: the addresses that targets see, beside what is expected.
import { get, post } from "./api.js";
import { openDialog } from "./dialog.js";
import { badge, busy, button, el, note, refill } from "./dom.js";
import { familyText } from "./family.js";
import { ago, inWords, joined, t, word } from "./i18n.js";

const KINDS = { stable: "good", rotating: "warn", unknown: "", stale: "" };

// Address, verdict and age, one after another, and what is wrong with them.
export function exitLines(found) {
  if (!found) return [];
  const lines = found.exits.map((one) => el("div", { className: "exit" },
    el("code", {}, one.address), " ", badge(word("exitVerdict", one.verdict), KINDS[one.verdict]),
    note(joined([ago(one.at), word("exitSource", one.source)]))));
  return [...(lines.length ? lines : [note(t("exitUnseen"))]), note(inWords(found, "problem"), "bad")];
}

// What a person expects of an exit; nothing if that is nothing.
export function expectation(found) {
  const parts = [found.exit_family && badge(familyText(found.exit_family), found.exit_family),
    ...found.exit_in.map((one) => el("div", {}, el("code", {}, one))),
    found.exit_enforce ? note(t("exitEnforced")) : null].filter(Boolean);
  return parts.length ? parts : [note(t("exitAny"))];
}

// Whether there is an echo that can be asked.
export async function hasEcho() {
  const { echo } = await get("/settings");
  return Boolean(echo?.ipv4 || echo?.ipv6);
}

// Asks the echo through a proxy; texts that say what it answered, and their kinds.
export async function look(name) {
  const { items } = await post("/exits/probe", { proxies: [name] });
  return items.map((one) => (one.ok ? [t("exitSeen", { name, address: one.address }), "good"] : [inWords(one, "detail"), "bad"]));
}

export async function showExits(proxy) {
  const isAskable = await hasEcho();
  const place = el("div");
  const said = el("div", { role: "status" });
  const load = async () => {
    const { items: [found] } = await get(`/exits?${new URLSearchParams({ proxy: proxy.id })}`);
    refill(place, el("dl", { className: "facts" },
      el("dt", {}, t("expected")), el("dd", {}, expectation(found)),
      el("dt", {}, t("seen")), el("dd", {}, exitLines(found))));
  };
  await load();
  const again = (event) => busy(event.target, async () => {
    const texts = await look(proxy.name).catch((error) => [[error.message, "bad"]]);
    refill(said, texts.map((one) => note(...one)));
    await load();
  });
  openDialog(t("exitsOf", { name: proxy.name }),
    [place, isAskable ? el("p", { className: "look" }, button(t("look"), again)) : note(t("noEcho"), "warn"), said]);
}
