"""Settings of the registry."""

from tests.helpers.shell import Shell


def test_settings_are_shown_changed_and_cleared(shell: Shell) -> None:
    shell("settings", "--set-default", "refuse", "--set-test-url", "http://a.test/")
    assert shell.json("settings") == {"default": "refuse", "test_url": "http://a.test/"}
    shell("settings", "--set-default", "none")
    assert shell.json("settings") == {"default": None, "test_url": "http://a.test/"}
