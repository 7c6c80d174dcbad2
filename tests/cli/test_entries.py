"""What the verbs of all kinds have in common."""

from tests.helpers.shell import Shell


def test_missing_entry_is_reported(shell: Shell) -> None:
    for command in (("proxies", "show"), ("pools", "show"), ("rules", "remove")):
        shell(*command, "nobody", status=1)
        assert "no such" in shell.err


def test_several_names_are_each_reported(shell: Shell) -> None:
    for name in ("one", "two", "three"):
        shell("proxies", "add", name, "--host", "192.0.2.1")
    shell("rules", "add", "two", "--name", "mine")
    table = shell("proxies", "disable", "one", "nobody", "two", status=1)
    assert [line.split()[0] for line in table.splitlines()] == ["NAME", "one", "two"]
    assert shell.err.startswith("egress-policy: nobody: There is no such proxy")
    assert shell("proxies", "remove", "one", "two", "three", "one", status=1) == (
        "one: removed\nthree: removed\n"
    )
    assert "egress-policy: two: " in shell.err
    assert "used by: mine" in shell.err
    assert [one["name"] for one in shell.json("proxies", "list")] == ["two"]
    shown = shell.json("proxies", "show", "two", "tow", status=1)
    assert shown[0]["usage"]["count"] == 1
    assert shown[1] == {
        "name": "tow",
        "code": "NOT_FOUND",
        "detail": "There is no such proxy. Did you mean 'two'?",
    }
    removed = shell.json("proxies", "remove", "nobody", "two", "--force", status=1)
    assert [one.get("success") for one in removed] == [None, True]
