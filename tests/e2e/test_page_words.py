"""What the server says, in the language of the page."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from egress_policy import api
from tests.e2e.browser import browser_page, chromium, keep
from tests.e2e.page import PageServer, act, running, show

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
MESSAGES = Path(api.__file__).parent / "messages"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


async def log_in(page: Page, scene: PageServer) -> None:
    await page.goto(scene.url)
    await page.locator("#token").fill(scene.token)
    await page.locator("form.login button[type=submit]").click()
    await page.locator("#tab-proxies").wait_for()


async def test_faults_of_a_form_are_said_in_german(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser, language="de") as page:
        await log_in(page, scene)
        await show(page, "proxies")
        await page.locator("#add-proxy").click()
        dialog = page.get_by_role("dialog")
        host = dialog.locator("[name=host]")
        await host.fill("127.1")
        await act(dialog, "Speichern")
        name = dialog.locator(".field", has=page.locator("[name=name]"))
        await expect(name).to_contain_text("ein leerer Text ist nicht erlaubt")
        await expect(name).not_to_contain_text("name:")
        await expect(dialog).to_contain_text("Ungültiger Host: er liest sich als Zahl")
        await dialog.locator("[name=name]").fill("exit")
        await host.fill("192.0.2.1")
        await dialog.locator("[name=family]").select_option("ipv6")
        await act(dialog, "Speichern")
        await expect(dialog).to_contain_text("passt nicht zum Host, der eine IPv4-Adresse ist")
        await dialog.locator("[name=family]").select_option("ipv4")
        await act(dialog, "Speichern")
        await expect(dialog).to_have_count(0)
        await page.locator("#add-proxy").click()
        await dialog.locator("[name=name]").fill("exit")
        await host.fill("192.0.2.2")
        await act(dialog, "Speichern")
        await expect(dialog).to_contain_text("„exit“ ist schon vergeben")
        await keep(page, "words-de-form")


async def test_explanation_and_rules_are_said_in_german(browser: Browser, tmp_path: Path) -> None:
    async with running(tmp_path) as scene, browser_page(browser, language="de") as page:
        await scene.make("off", status="inactive")
        await scene.ask("POST", "/rules", name="aus", hosts=["a.test"], use="off")
        await scene.ask("POST", "/rules", name="zu", hosts=["b.test"], use="refuse")
        await log_in(page, scene)
        await show(page, "rules")
        await expect(page.get_by_role("main")).to_contain_text(
            "Proxy off: inaktiv; es wird nichts gesendet"
        )
        await page.locator("[name=url]").fill("https://b.test/")
        await page.locator("[name=url]").press("Enter")
        told = page.locator("#explanation")
        await expect(told).to_contain_text("Host b.test gehört nicht zu ihren Hosts")
        await expect(told).to_contain_text("Regel zu (Hosts) passt")
        await expect(told).to_contain_text("Die Richtlinie lehnt dieses Ziel ab")
        await keep(page, "words-de-rules")


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("de", ["Ungültiger Port", "Zeile: mehr als zehn Felder", "ist schon vorhanden"]),
        ("es", ["Puerto no válido", "más de diez campos", "ya existe"]),
        ("pt-BR", ["Porta inválida", "mais de dez campos", "já existe"]),
        ("zh-CN", ["端口无效", "超过十个字段", "已存在"]),
        ("en", ["Invalid proxy port", "more than ten fields", "it is there already"]),
    ],
)
async def test_lines_of_an_import_are_said_in_each_language(
    browser: Browser, tmp_path: Path, language: str, expected: list[str]
) -> None:
    async with running(tmp_path) as scene, browser_page(browser, language=language) as page:
        await scene.make("exit")
        await log_in(page, scene)
        lines = ["192.0.2.7:99999", "|".join("abcdefghijkl"), "exit|192.0.2.1|1080|||socks5"]
        words = await page.evaluate(
            """async (text) => {
              const { post } = await import("/static/js/api.js");
              const { inWords } = await import("/static/js/i18n.js");
              const found = await post("/proxies/import", { text, dry_run: true });
              return found.results.map((one) => inWords(one, "message"));
            }""",
            "\n".join(lines),
        )
    for said, part in zip(words, expected, strict=True):
        assert part in said


async def test_what_the_page_has_no_words_for_is_said_in_english(
    browser: Browser, tmp_path: Path
) -> None:
    async with running(tmp_path) as scene, browser_page(browser, language="de") as page:
        await page.route("**/messages/server/de.json", lambda route: route.fulfill(json={}))
        await log_in(page, scene)
        await show(page, "proxies")
        await page.locator("#add-proxy").click()
        await act(page.get_by_role("dialog"), "Speichern")
        await expect(page.get_by_role("dialog")).to_contain_text("an empty text is not allowed")


async def test_groups_are_told_from_the_pool_of_all_proxies(
    browser: Browser, tmp_path: Path
) -> None:
    labels = json.loads((MESSAGES / "en.json").read_text("utf-8"))
    said = re.compile(r"\bpools?\b", re.IGNORECASE)
    pools = {key for key, text in labels.items() if said.search(text)}
    assert pools <= {"tab_proxies", "poolsHint"}
    async with running(tmp_path) as scene, browser_page(browser) as page:
        await log_in(page, scene)
        await expect(page.get_by_role("tab", name="Proxy Pool")).to_be_visible()
        await expect(page.get_by_role("tab", name="Groups")).to_be_visible()
        await show(page, "pools")
        await page.locator("#add-pool").click()
        await page.get_by_role("dialog").locator("[name=name]").fill("homes")
        await page.get_by_role("dialog").locator("[name=members]").fill("nobody")
        await act(page.get_by_role("dialog"), "Save")
        await expect(page.get_by_role("dialog")).to_contain_text("names no proxy")
