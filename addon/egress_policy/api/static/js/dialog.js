// One dialog at a time; the browser keeps the focus in it and gives it back.
import { button, el } from "./dom.js";
import { t } from "./i18n.js";

// `act` runs when the form is sent and may throw: its problem is shown and the dialog stays.
export function openDialog(title, content, { act, verb = t("save"), danger = false } = {}) {
  const problem = el("p", { className: "note bad", role: "alert" });
  const close = button(act ? t("cancel") : t("close"), () => dialog.close());
  const send = act && el("button", { type: "submit", className: danger ? "danger" : "primary" }, verb);
  const form = el("form", { noValidate: true, onsubmit: submit },
    el("h2", { id: "dialog-title" }, title), content, problem,
    el("div", { className: "end" }, close, send || null));
  const dialog = el("dialog", { "aria-labelledby": "dialog-title", onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();

  async function submit(event) {
    event.preventDefault();
    if (!act) return dialog.close();
    send.disabled = true;
    problem.textContent = "";
    try {
      if (await act() !== false) dialog.close();
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      send.disabled = false;
    }
  }
  return dialog;
}
