"""Where things stand: nothing shifts, breaks, is cut, or lies over something else."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.e2e.browser import browser_page, chromium, keep
from tests.e2e.page import PageServer, log_in, running, show

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
TABS = ("overview", "proxies", "rules", "pools", "exits", "live", "status")
WIDE = 1400


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PageServer]:
    """Looked at alone, so one does for all."""
    async with running(tmp_path_factory.mktemp("layout")) as found:
        for number in range(40):  # tall enough for a scroll bar on some tabs
            await found.make(f"exit-{number}", host="2001:db8:1:2:3:4:5:6", port=65535)
        await found.ask("POST", "/pools", name="homes", members=["exit-0", "exit-1"])
        await found.ask("POST", "/rules", name="home", hosts=["*.example.org"], use="homes")
        yield found


async def tops_and_lefts(page: Page) -> list[list[float]]:
    found: list[list[float]] = await page.evaluate(
        """() => [...document.querySelectorAll("[role=tab]")].map((one) => {
          const { left, top } = one.getBoundingClientRect();
          return [Math.round(left), Math.round(top)];
        })"""
    )
    return found


_MISPLACED = """() => {
  const found = [];
  const start = (one) => one.outerHTML.slice(0, 80);
  const box = (one) => one.getBoundingClientRect();
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (selector) => all(selector).filter((one) => one.checkVisibility());
  const lines = (one) => Math.round(box(one).height / parseFloat(getComputedStyle(one).lineHeight));
  for (const one of shown("#main :is(th, td.number)")) {
    if (one.scrollWidth > one.clientWidth + 1) found.push(`cut: ${start(one)}`);
  }
  for (const one of shown("#main .scroll")) {
    const isWide = innerWidth > 1240 && one.scrollWidth > one.clientWidth + 1;
    if (isWide) found.push(`wide: ${start(one)}`);
  }
  for (const one of shown("#main button")) {
    if (lines(one) > 2) found.push(`broken: ${start(one)}`);
  }
  for (const one of shown("#main .endpoint")) {
    if (lines(one) > 1) found.push(`broken: ${start(one)}`);
  }
  for (const row of shown("#main tbody tr")) {
    const cells = [...row.cells].filter((one) => one.checkVisibility());
    for (const cell of cells) {
      for (const control of cell.querySelectorAll("button, input, select")) {
        const { left, right, top, bottom } = box(control);
        const [x, y] = [(left + right) / 2, (top + bottom) / 2];
        const above = document.elementFromPoint(x, y);
        if (!above || control.contains(above) || above.contains(control)) continue;
        if (above.closest("tr") === row) {
          found.push(`${start(above)} lies over ${start(control)}`);
        }
      }
    }
    const [name, button] = [row.querySelector("strong"), row.querySelector(".actions button")];
    if (innerWidth > 1240 && name && button && lines(name) === 1) {
      const apart = (box(name).top + box(name).bottom - box(button).top - box(button).bottom) / 2;
      if (Math.abs(apart) > 2) found.push(`${apart} px apart: ${start(button)}`);
    }
  }
  return found;
}"""


@pytest.mark.parametrize(
    ("language", "width"),
    [("en", WIDE), ("en", 1260), ("en", 380), ("de", WIDE), ("de", 1260), ("de", 800), ("de", 380)],
)
async def test_nothing_shifts_breaks_or_is_cut(
    browser: Browser, scene: PageServer, language: str, width: int
) -> None:
    async with browser_page(browser, width, language=language) as page:
        await page.goto(scene.url)
        await page.locator("#token").fill(scene.token)
        await page.locator("form.login button[type=submit]").click()
        await page.locator("#tab-proxies").wait_for()
        await expect(page.locator("#state")).to_be_visible()
        places = await tops_and_lefts(page)
        misplaced = {}
        for tab in TABS:
            await show(page, tab)
            await expect(page.locator("#main > div > *").first).to_be_visible()
            await expect(page.locator("#main .note", has_text="…")).to_have_count(0)
            assert await tops_and_lefts(page) == places, tab
            misplaced[tab] = await page.evaluate(_MISPLACED)
            await keep(page, f"layout-{tab}-{language}-{width}")
        assert misplaced == {tab: [] for tab in TABS}


@pytest.mark.parametrize("width", [WIDE, 800])
async def test_header_has_one_line(browser: Browser, scene: PageServer, width: int) -> None:
    async with browser_page(browser, width) as page:
        await log_in(page, scene)
        await expect(page.locator("#state")).to_be_visible()
        height = await page.evaluate("document.querySelector('.bar').offsetHeight")
        assert height < 60
