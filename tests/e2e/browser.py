"""Debian's Chromium, headless, as the user of the page."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from tests.e2e.system import find

ARTIFACTS = Path(__file__).parents[2] / ".artifacts"
PATIENCE = 30_000
"""Milliseconds to wait for what the page does: a machine may be busy, and what comes early costs
no time."""
expect.set_options(timeout=PATIENCE)
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    path = find("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def browser_page(
    browser: Browser, width: int = 1280, language: str = "en"
) -> AsyncIterator[Page]:
    """A page with its own cookies and storage. Leaving it fails if the console had an error."""
    size: ViewportSize = {"width": width, "height": 900}
    context = await browser.new_context(viewport=size, locale=language, accept_downloads=True)
    async with context:
        page = await context.new_page()
        page.set_default_timeout(PATIENCE)
        errors: list[str] = []
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    # What the API turns away is told by the browser as well.
    told = [text for text in errors if "Failed to load resource" not in text]
    assert not told, told


async def keep(page: Page, name: str) -> None:
    """A screenshot for people to look at."""
    ARTIFACTS.mkdir(exist_ok=True)
    await page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)


async def faults(page: Page) -> list[str]:
    """Obstacles for people who use the page: names, roles, headings, contrast, width."""
    found: list[str] = await page.evaluate(_FAULTS)
    return found


_FAULTS = """() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const start = (e) => e.outerHTML.slice(0, 90);
  const visible = (e) => e.checkVisibility() && e.getClientRects().length > 0;

  const nameOf = (e) => {
    const labels = [...(e.labels || [])].map((label) => label.textContent).join("");
    return (e.getAttribute("aria-label") || e.textContent || labels).trim();
  };
  for (const e of all("button, a, select, input, textarea")) {
    if (visible(e) && !nameOf(e)) faults.push(`no name: ${start(e)}`);
  }
  const ids = all("[id]").map((e) => e.id);
  const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
  for (const id of twice) faults.push(`id twice: ${id}`);
  for (const key of ["aria-labelledby", "aria-describedby", "aria-controls"]) {
    for (const e of all(`[${key}]`)) {
      for (const id of e.getAttribute(key).split(" ")) {
        if (!document.getElementById(id)) faults.push(`${key} of nothing: ${id}`);
      }
    }
  }
  if (!document.documentElement.lang) faults.push("no language");
  for (const one of ["h1", "main"]) {
    if (all(one).length !== 1) faults.push(`not one ${one}`);
  }
  for (const th of all("th")) if (!th.scope) faults.push("a head without scope");
  const owners = { tab: "tablist", rowgroup: "table", row: "rowgroup", cell: "row" };
  owners.columnheader = "row";
  for (const [role, owner] of Object.entries(owners)) {
    for (const e of all(`[role=${role}]`)) {
      if (!e.parentElement.closest(`[role=${owner}]`)) faults.push(`${role} in no ${owner}`);
    }
  }
  const dialogs = all("dialog[open]");
  const place = dialogs.at(-1) || document;
  for (const e of all("dialog[open], [role=region], [role=group], [role=tablist]")) {
    if (!visible(e)) continue;
    const by = document.getElementById(e.getAttribute("aria-labelledby"));
    if (!(e.getAttribute("aria-label") || by?.textContent)) faults.push(`no name: ${start(e)}`);
  }
  if (all("[role=tab]").length && all("[role=tab][aria-selected=true]").length !== 1) {
    faults.push("not one tab is selected");
  }
  let level = 1;
  for (const e of document.querySelectorAll("h1, h2, h3, h4")) {
    if (!visible(e)) continue;
    if (e.tagName[1] > level + 1) faults.push(`a level left out: ${start(e)}`);
    level = Number(e.tagName[1]);
  }
  for (const e of all("img")) if (!e.hasAttribute("alt")) faults.push(`no alt: ${start(e)}`);
  for (const e of all("[style]:not([style='']), [onclick], style, script:not([src])")) {
    faults.push(`code or style in the page: ${start(e)}`);
  }
  if (all("[tabindex]").some((e) => e.tabIndex > 0)) faults.push("an order of tabs of its own");
  // WCAG 2.2, target size: 24 by 24; a label around a control is part of it.
  for (const e of place.querySelectorAll("button, select, input, textarea, summary, a")) {
    if (!visible(e)) continue;
    const box = (e.closest("label.switch, label.check") || e).getBoundingClientRect();
    const least = e.type === "checkbox" ? 18 : 24;
    if (Math.min(box.width, box.height) < least) {
      faults.push(`small, ${Math.round(box.width)} by ${Math.round(box.height)}: ${start(e)}`);
    }
  }
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) faults.push(`wider than the window: ${width}`);

  // Contrast as WCAG 2 has it: relative luminances, of the text and of what is behind it.
  const channels = (color) => {
    const found = color.match(/[\\d.]+/g).map(Number);
    return found.length < 4 ? [...found, 1] : found;
  };
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  // Colours that one sees through are laid over what is behind them.
  const behind = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (color[3] > 0) layers.unshift(color);
      if (color[3] === 1) break;
    }
    return layers.reduce((back, color) =>
      back.map((channel, i) => channel * (1 - color[3]) + color[i] * color[3]), [255, 255, 255]);
  };
  const contrast = (one, other) => {
    const pair = [one, other].map(luminance);
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  };
  for (const e of all("body *")) {
    const ownText = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!ownText || !visible(e) || e.disabled || e.tagName === "OPTION") continue;
    const ratio = contrast(channels(getComputedStyle(e).color), behind(e));
    if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${start(e)}`);
  }
  // What can be used is told from what is around it by its edge or its colour.
  const edged = "button:not([role=tab], .link, th *), select, textarea, input";
  for (const e of place.querySelectorAll(edged)) {
    if (!visible(e) || e.disabled || (e.type === "checkbox" && !e.role)) continue;
    const style = getComputedStyle(e);
    const around = behind(e.parentElement);
    const best = [style.borderTopColor, style.backgroundColor]
      .map((color) => contrast(channels(color), around));
    if (Math.max(...best) < 3) faults.push(`edge ${Math.max(...best).toFixed(2)}: ${start(e)}`);
    if (e.placeholder) {
      const color = channels(getComputedStyle(e, "::placeholder").color);
      const ratio = contrast(color, behind(e));
      if (ratio < 4.5) faults.push(`placeholder ${ratio.toFixed(2)}: ${start(e)}`);
    }
  }
  return faults;
}"""
