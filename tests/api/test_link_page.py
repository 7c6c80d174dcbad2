import stat
from pathlib import Path
from urllib.parse import urlsplit

from egress_policy.api.link_page import LinkPage

LINK = 'http://127.0.0.1:1/#a&b"<word>'


def test_file_is_for_its_owner_alone_and_leads_to_the_link() -> None:
    page = LinkPage()
    page.lead_to(LINK)
    file = Path(urlsplit(page.url).path)
    try:
        assert page.url.startswith("file:///")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        text = file.read_text("utf-8")
        assert text.count("http://127.0.0.1:1/#a&amp;b&quot;&lt;word&gt;") == 2
        assert page.link == LINK
        assert "word" not in page.url
    finally:
        page.remove()
    page.remove()
    assert not file.parent.exists()
