// Dialogs. The browser keeps the focus in the topmost one and gives it back; where what had it is
// gone, the focus goes to what took its place. Esc closes a dialog, but asks before it drops input.
import { button, el, refocus, spotOf } from "./dom.js";
import { t } from "./i18n.js";

let made = 0;

// `act` runs when the form is sent; unless it returns false the dialog closes. What it throws is
// shown, beside the control of that name if the problem is about one, and the dialog stays.
// Where somebody else changed the entry meanwhile, `reload` opens the form on what it is now.
export function openDialog(title, content, { act, verb = t("save"), danger = false, reload, away = t("cancel") } = {}) {
  const id = `dialog-${(made += 1)}`;
  const problem = el("div", { role: "alert" });
  const send = act && el("button", { type: "submit", className: danger ? "danger" : "primary" }, verb);
  const form = el("form", { noValidate: true, onsubmit: submit },
    el("h2", { id }, title), content, problem,
    el("div", { className: "end" }, button(act ? away : t("close"), () => dialog.close()), send || null));
  const spot = spotOf(document.activeElement);
  const dialog = el("dialog", { "aria-labelledby": id, onclose: closed, onkeydown, oncancel: leave }, form);
  document.body.append(dialog);
  dialog.showModal();
  const untouched = inputOf(form);

  function closed() {
    dialog.remove();
    refocus(spot);
  }

  // A browser lets a page keep a dialog open once; the key it lets it keep always.
  function onkeydown(event) {
    if (event.key === "Escape" && !event.isComposing && !leave(event)) dialog.close();
  }

  // Asks, and says that it did, where there is input to lose.
  function leave(event) {
    if (event.target.type === "file") return false; // nothing was chosen
    event.preventDefault();
    if (!act || inputOf(form) === untouched) return event.type === "cancel" ? dialog.close() : false;
    // The form closes after the question, so that the focus goes back through both.
    const drop = () => question.addEventListener("close", () => dialog.close());
    const question = confirm(t("discardTitle"), [t("discardHint")], t("discard"), drop, t("keepEditing"));
    return true;
  }

  async function submit(event) {
    event.preventDefault();
    if (!act) return dialog.close();
    send.disabled = true;
    clear(form, problem);
    try {
      if ((await act()) !== false) dialog.close();
    } catch (error) {
      show(error);
    } finally {
      send.disabled = false;
    }
  }

  function show(error) {
    if (error.status === 401) return; // the page asks for a login
    const left = (error.errors || []).filter((one) => !mark(form, one, id));
    if (!left.length && error.errors?.length) {
      return form.querySelector("[aria-invalid]").focus();
    }
    problem.append(el("p", { className: "note bad" }, error.message));
    if (error.status === 412 && reload) {
      problem.append(button(t("loadCurrent"), async () => {
        await reload();
        dialog.close();
      }));
    }
  }
  return dialog;
}

function clear(form, problem) {
  problem.replaceChildren();
  for (const control of form.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-errormessage");
  }
  for (const message of form.querySelectorAll(".field-error")) message.remove();
}

// Says at its control what is wrong with it; false if the form has none of that name.
function mark(form, { field, fault }, id) {
  const named = (name) => form.elements.namedItem(name);
  const control = named(field.replaceAll(".", "_")) ?? named(field.split(".")[0]);
  if (!control?.closest) return false;
  const said = el("p", { className: "note bad field-error", id: `${id}-${control.name}` }, fault);
  control.closest(".field").append(said);
  control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-errormessage", said.id);
  return true;
}

// What a person has put into a form.
const inputOf = (form) => JSON.stringify([...form.elements].map((one) => [one.name, one.value, one.checked]));

// Asks before something is lost.
export function confirm(question, warnings, verb, act, away = t("cancel")) {
  const said = warnings.map((one) => el("p", { className: "note warn" }, one));
  return openDialog(question, said, { act, verb, danger: true, away });
}
