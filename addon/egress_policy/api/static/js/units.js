// Amounts with their units, as the page's language writes them.
import { t, shown } from "./i18n.js";

const SIZES = ["B", "kB", "MB", "GB", "TB", "PB"];

// Three digits are enough to compare by; of what is small all of them are shown.
const rounded = (value) => shown(value < 10 ? Math.round(value * 10) / 10 : Math.round(value));

// In seconds from one on.
export function milliseconds(value) {
  if (value === null) return "–";
  return value < 1000 ? `${rounded(value)} ms` : `${rounded(value / 1000)} s`;
}

// In powers of 1,000, as networks are measured.
export function bytes(value) {
  const power = Math.min(Math.floor(Math.log10(Math.max(1, value)) / 3), SIZES.length - 1);
  return `${rounded(value / 1000 ** power)} ${SIZES[power]}`;
}

export const upAndDown = ({ up, down }) => t("upAndDown", { up: bytes(up), down: bytes(down) });
