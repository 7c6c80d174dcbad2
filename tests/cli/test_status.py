"""What is in force, in lines for a person."""

from pathlib import Path

from tests.helpers.scene import write_policy
from tests.helpers.shell import Shell


def lines(text: str) -> dict[str, str]:
    """What each line is about, and what it says. A line without a name goes on with the last."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        name = line[:10].strip() or name
        found[name] = " ".join([*([found[name]] if name in found else []), line[10:]])
    return found


def test_it_says_what_is_in_force_and_from_where(tmp_path: Path, shell: Shell) -> None:
    shell("proxies", "add", "socks5://192.0.2.1:1080#one")
    shell("proxies", "add", "socks5://192.0.2.2:1080#two")
    shell("rules", "add", "one", "--host", "*.example")
    found = lines(shell("status"))
    assert found["state"] == "in force"
    assert found["policy"] == "no policy file"
    db = tmp_path / "egress.db"
    assert found["registry"] == f"{db}: 2 proxies, 0 pools, 1 rule, 0 assignments"
    assert found["default"] == "direct, says the option egress_default"
    assert found["flows"] == "0"
    policy = write_policy(tmp_path / "p.yaml", default="refuse", rules=[{"use": "refuse"}])
    found = lines(shell("status", "--policy", str(policy)))
    assert found["policy"] == f"{policy}: 0 proxies, 0 pools, 1 rule"
    assert found["default"] == "refuse, says the policy file"


def test_rules_that_refuse_are_problems(shell: Shell) -> None:
    shell("proxies", "add", "socks5://192.0.2.1:1080#one")
    shell("rules", "add", "one", "--host", "*.example")
    shell("proxies", "disable", "one")
    assert "one" in lines(shell("status"))["problem"]
