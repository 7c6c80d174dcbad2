"""Rules of the registry, in their order."""

import pytest

from tests.helpers.shell import Shell


def test_rule_is_added_shown_changed_and_removed(shell: Shell) -> None:
    shell("rules", "add", "direct", "--name", "a", "--port", "443", "--client", "192.0.2.0/24")
    shell("rules", "add", "refuse", "--name", "b", "--filter", "~m POST", "--before", "a")
    assert [rule["label"] for rule in shell.json("rules", "list")] == ["b", "a"]
    shell("rules", "move", "b", "--last")
    shell("rules", "edit", "a", "--clear", "ports")
    assert shell.json("rules", "show", "a")["ports"] == []
    assert "a     -      192.0.2.0/24" in shell("rules", "list")
    shell("rules", "remove", "a")
    assert [rule["label"] for rule in shell.json("rules", "list")] == ["b"]


def test_several_entries_are_edited_alike_and_moved_in_order(shell: Shell) -> None:
    for name in ("a", "b", "c"):
        shell("rules", "add", "direct", "--name", name)
    shell("rules", "edit", "a", "b", "--port", "443")
    assert [rule["ports"] for rule in shell.json("rules", "list")] == [[443], [443], []]
    shell("rules", "edit", "a", "b", "--name", "d", status=2)
    shell("rules", "move", "c", "b", "--before", "a")
    assert [rule["label"] for rule in shell.json("rules", "list")] == ["c", "b", "a"]
    shell("rules", "move", "c", "b", "--last")
    assert [rule["label"] for rule in shell.json("rules", "list")] == ["a", "c", "b"]
    assert [rule["name"] for rule in shell.json("rules", "show", "a", "b")] == ["a", "b"]


@pytest.mark.parametrize("verb", [["remove"], ["move", "--last"]], ids=" ".join)
def test_each_of_several_is_the_rule_that_had_the_number_before(
    shell: Shell, verb: list[str]
) -> None:
    for host in "abcde":
        shell("rules", "add", "direct", "--host", f"{host}.test")
    command, *options = verb
    shell("rules", command, "#1", "#2", "#4", *options)
    left = [rule["hosts"][0][0] for rule in shell.json("rules", "list")]
    assert left == [*"ce"] + ([*"abd"] if command == "move" else [])


def test_a_rule_that_never_decides_is_marked(shell: Shell) -> None:
    shell("rules", "add", "direct", "--name", "wide", "--host", "*.test")
    shell("rules", "add", "refuse", "--name", "lost", "--host", "a.test")
    wide, lost = shell.json("rules", "list")
    assert (wide["never_by"], lost["never_by"]) == ([], ["wide"])
    assert wide["hits"] is None  # no flow leaves by a command
    listed = shell("rules", "list").splitlines()
    assert listed[-1].endswith("rule wide before it matches all that it matches")
