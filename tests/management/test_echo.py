"""An echo of one's own as people run it: its key, and the URLs that it names."""

from pathlib import Path

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.management.echo import load_echo_key, read_echo_key, running_echo
from egress_policy.model.settings import parse_listen


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "egress-echo-key"
    assert read_echo_key(path) is None
    key = load_echo_key(path)
    assert len(key) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_echo_key(path) == read_echo_key(path) == key


@pytest.mark.parametrize(("text", "mode"), [("x" * 40, 0o640), ("short\n", 0o600), ("", 0o600)])
def test_a_key_that_cannot_be_used_is_an_error_and_not_the_lack_of_one(
    tmp_path: Path, text: str, mode: int
) -> None:
    path = tmp_path / "egress-echo-key"
    path.write_text(text)
    path.chmod(mode)
    for read in (read_echo_key, load_echo_key):
        with pytest.raises(InvalidEntry, match="The key of the echo"):
            read(path)


@pytest.mark.parametrize(
    ("listen", "families"),
    [("127.0.0.1:0", ["ipv4"]), ("[::1]:0", ["ipv6"]), ("0.0.0.0:0", ["ipv4"])],
)
async def test_urls_are_named_by_family(tmp_path: Path, listen: str, families: list[str]) -> None:
    async with running_echo(parse_listen(listen), tmp_path / "key") as view:
        urls = {"ipv4": view.ipv4, "ipv6": view.ipv6}
        port = view.listen.rpartition(":")[2]
    named = [family for family, url in urls.items() if url]
    assert named == families or (listen.startswith("0.") and named == [])  # without any route
    assert all(url.endswith(f":{port}/") for url in urls.values() if url)
