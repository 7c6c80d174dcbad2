"""Which proxy a scope leaves by."""

from tests.helpers.shell import Shell


def test_scope_is_assigned_listed_and_cleared(shell: Shell) -> None:
    shell("proxies", "add", "one", "--host", "192.0.2.1")
    shell("assign", "host", "a.test", "--to", "one")
    assert "host   a.test  one" in shell("assign")
    assert (
        shell.json("assign", "host", "a.test", "--to", "one", "--group", "shop")["group"] == "shop"
    )
    shell("assign", "host", "a.test", "--to", "one")
    assert "host   a.test  one    shop" in shell("assign")
    assert not shell.json("assign", "host", "a.test", "--to", "one", "--group", "none")["group"]
    shell("assign", "host", "a.test", "--clear")
    assert shell.json("assign") == []
    shell("assign", "host", "a.test", status=1)
    assert "Give --to PROXY or --clear" in shell.err
