// Who looks at the page: a session by the token, or by the word of a one-time link.
import { call, post } from "./api.js";
import { el, field, plain } from "./dom.js";
import { t } from "./i18n.js";
import { hasKey, keep } from "./key.js";

const PATH = "/api/v1/session";

// Whether there is a session. A link's word is used up and leaves the address.
export async function hasSession(word) {
  if (word) {
    history.replaceState(null, "", location.pathname);
    await open({ link: word }).catch(() => {});
  }
  return (await hasKey()) && call("GET", PATH).then(() => true, () => false);
}

async function open(proof) {
  keep((await post(PATH, proof)).key);
}

const way = (text, command = "") => el("li", {}, text, command ? el("code", {}, command) : null);

// A form that says how to log in and asks for the token, and `done` once it was the right one.
export function loginForm(title, hint, done) {
  const token = el("input", { type: "password", autocomplete: "current-password", required: true, id: "token" });
  const problem = el("p", { className: "note bad", role: "alert" });
  return el("form", {
    className: "login",
    async onsubmit(event) {
      event.preventDefault();
      try {
        await open({ token: token.value.trim() });
      } catch (error) {
        problem.textContent = plain(error.message);
        return;
      }
      done();
    },
  }, el("h2", { id: "login-title" }, title), hint ? el("p", { className: "note warn" }, hint) : null,
  el("ul", { className: "ways" }, way(t("loginLink")), way(t("loginCommand"), "egress-policy dashboard"),
    way(t("loginPrompt"), "egress.dashboard"), way(t("tokenHint"), "egress-policy token")),
  field(t("token"), token), problem,
  el("div", { className: "end" }, el("button", { type: "submit", className: "primary" }, t("logIn"))));
}

// The session is over: the same in front of everything, so that what was typed is not lost.
export function loginAgain(done) {
  const dialog = el("dialog", { "aria-labelledby": "login-title", onclose: () => location.reload() },
    loginForm(t("sessionOver"), t("sessionOverHint"), () => {
      dialog.remove();
      done();
    }));
  document.body.append(dialog);
  dialog.showModal();
}
