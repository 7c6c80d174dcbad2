// The default of the registry: what a flow takes that no rule matches.
import { get, put } from "../api.js";
import { openDialog } from "../dialog.js";
import { el, field, select, tell } from "../dom.js";
import { t } from "../i18n.js";

export async function editDefault(done) {
  try {
    const settings = await get("/settings");
    const defaults = [["", t("notStated")], ["direct", t("use_direct")], ["refuse", t("use_refuse")]];
    const chosen = select(defaults, settings.default ?? "", { name: "default" });
    openDialog(t("defaultAction"), el("div", { className: "form" },
      field(t("defaultAction"), chosen, t("defaultHint"), { className: "field wide" })), {
      async act() {
        await put("/settings", { ...settings, default: chosen.value || null });
        await done();
      },
    });
  } catch (error) {
    tell(error);
  }
}
