"""Settings of the registry."""

from tests.helpers.shell import Shell


def test_settings_are_shown_changed_and_cleared(shell: Shell) -> None:
    shell("settings", "--set-default", "refuse", "--set-test-url", "http://a.test/")
    stated = {"default": "refuse", "test_url": "http://a.test/", "echo": None}
    assert shell.json("settings") == stated
    shell("settings", "--set-default", "none")
    assert shell.json("settings") == {**stated, "default": None}


def test_one_family_of_the_echo_changes_without_the_other(shell: Shell) -> None:
    shell("settings", "--set-echo-ipv4", "http://a.test/")
    shell("settings", "--set-echo-ipv6", "http://b.test/")
    assert shell.json("settings")["echo"] == {"ipv4": "http://a.test/", "ipv6": "http://b.test/"}
    shell("settings", "--set-echo-ipv4", "none", "--set-default", "refuse")
    shown = shell.json("settings")
    assert shown["echo"] == {"ipv4": None, "ipv6": "http://b.test/"}
    assert shown["default"] == "refuse"
    shell("settings", "--set-echo-ipv6", "ftp://b.test/", status=1)
    shell("settings", "--set-echo-ipv6", "none")
    assert shell.json("settings")["echo"] is None
