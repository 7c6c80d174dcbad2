import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import InvalidEntry, PolicyFileError
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import Policy
from egress_policy.policy_file.parse import (
    MOMENT,
    load_policy,
    parse_policy,
    read_policy,
)
from tests.helpers.filters import compile_word

GOOD = """\
version: 1
proxies:
  - name: v6-egress
    type: socks5
    host: proxy.example.com
    family: ipv6
    username: alice
    password_env: V6_PASSWORD
  - {name: dc, url: "http://u:hunter!2@192.0.2.10:3128?family=ipv4"}
pools:
  - {name: homes, members: [dc], strategy: first, sticky_by: client, sticky_minutes: 30}
rules:
  - {hosts: ["api.example.com", "*.example.org"], use: v6-egress}
  - {clients: ["192.0.2.0/24"], ports: [443], use: homes}
  - {filter: later, use: dc}
  - {hosts: ["*.internal.example"], use: direct, family: ipv6}
  - {hosts: ["*.ads.example"], use: refuse}
  - {hosts: ["one.example"], use: {type: http, host: 192.0.2.7, port: 8080, family: ipv4}}
  - {hosts: ["two.example"], use: {url: "https://u:hunter!2@h.example"}}
default: refuse
"""


def no_files(name: str) -> str:
    raise FileNotFoundError(2, "No such file")


def parse(text: str, password: str = "hunter!2") -> Policy:
    return parse_policy(text, "p.yaml", {"V6_PASSWORD": password}, no_files, compile_word)


def problems(text: str) -> str:
    with pytest.raises(PolicyFileError) as caught:
        parse(text)
    assert "hunter!2" not in str(caught.value)
    return str(caught.value)


def message_of(text: str) -> str:
    try:
        parse(text)
    except PolicyFileError as error:
        return str(error)
    return ""


def rules(*lines: str) -> str:
    return "\n".join(["version: 1", "rules:", *(f"  - {line}" for line in lines)])


def proxies(*lines: str) -> str:
    return "\n".join(["version: 1", "proxies:", *(f"  - {line}" for line in lines)])


def pools(*lines: str) -> str:
    """A pool, a line each: the first begins the entry."""
    return "\n".join(
        ["version: 1", "pools:", f"  - {lines[0]}", *(f"  {one}" for one in lines[1:])]
    )


def test_policy_is_read_whole() -> None:
    policy = parse(GOOD)
    v6, dc = policy.proxies
    assert (v6.type, v6.host, v6.port, v6.family) == ("socks5", "proxy.example.com", 1080, "ipv6")
    assert (dc.host, dc.port, dc.family) == ("192.0.2.10", 3128, "ipv4")
    assert {p.password.get_secret_value() for p in policy.proxies} == {"hunter!2"}
    assert [pool.names for pool in policy.pools] == [("dc",)]
    assert len(policy.rules) == 7
    inline = [rule.use for rule in policy.rules if isinstance(rule.use, Proxy)]
    assert [proxy.name for proxy in inline] == ["http://192.0.2.7:8080", "https://h.example:443"]
    assert policy.default == "refuse"


def test_pools_and_exits_are_read_whole() -> None:
    policy = parse(
        """\
version: 1
proxies:
  - name: home-1
    host: h
    health: ignore
    max_connections: 20
    exit_family: ipv4
    exit_in: [192.0.2.0/24, 198.51.100.7]
    exit_enforce: true
    tags: [EU, fast]
  - {name: home-2, host: g}
pools:
  - name: homes
    members: [home-1, {name: home-2, weight: 3}]
    strategy: sticky
    sticky_by: account
    failover: 2
    seed: 7
    checks: {every: 5m, url: {ipv4: "https://a.example/"}, expect: 204, members: all}
"""
    )
    [one, two] = policy.proxies
    assert (one.health, one.max_connections, one.exit_enforce) == ("ignore", 20, True)
    assert [str(network) for network in one.exit_in] == ["192.0.2.0/24", "198.51.100.7/32"]
    assert (one.tags, two.tags) == (("eu", "fast"), ())
    assert (two.health, two.max_connections, two.exit_family) == ("watch", 0, None)
    [pool] = policy.pools
    assert [(member.name, member.weight) for member in pool.members] == [
        ("home-1", 1),
        ("home-2", 3),
    ]
    assert (pool.strategy, pool.sticky_by, pool.failover, pool.seed) == ("sticky", "user", 2, 7)
    checks = {"every": 300, "url": {"ipv4": "https://a.example/", "ipv6": None}}
    assert pool.checks
    assert pool.checks.model_dump() == {**checks, "expect": "204", "members": "all"}


def test_version_alone_is_a_policy_that_leaves_the_default_open() -> None:
    assert parse("version: 1") == Policy()


def test_json_is_read_as_well() -> None:
    assert parse('{"version": 1, "default": "direct"}').default == "direct"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml:1: file: a mapping with `version: 1` is expected"),
        ("version: 2", "p.yaml:1: version: must be 1"),
        ("rules: []", "p.yaml:1: version: must be 1"),
        ("version: true", "p.yaml:1: version: must be 1"),
        ("version: 1\nrulez: []", "p.yaml:2: rulez: unknown key"),
        ("version: 1\nversion: 1", "p.yaml:2: version: duplicate key"),
        ("version: 1\nrules:", "p.yaml:2: rules: a list is expected"),
        ("version: 1\npools: {a: b}", "p.yaml:2: pools: a list is expected"),
        ("version: 1\ndefault: upstream", "p.yaml:2: default: must be direct or refuse"),
        ("version: 1\ndefault:", "p.yaml:2: default: must be direct or refuse"),
        ("version: 1\ndefault: []", "p.yaml:2: default: must be direct or refuse"),
        (rules("5"), "p.yaml:3: rules[0]: a mapping is expected"),
        (rules("{hosts: [a]}"), "p.yaml:3: rules[0].use: is required"),
        (rules("use: direct", "use: nothing"), "p.yaml:4: rules[1].use: 'nothing' names no"),
        (rules("use: direct\n    hosts:\n      - a\n      - a/b"), "p.yaml:6: rules[0].hosts[1]: "),
        (rules("{use: direct, hosts: []}"), "p.yaml:3: rules[0].hosts: an empty list is not"),
        (rules("{use: direct, hosts: a}"), "p.yaml:3: rules[0].hosts: a list is expected"),
        (rules("{use: direct, host: [a]}"), "p.yaml:3: rules[0].host: unknown key"),
        (rules("{use: direct, filter: ~~}"), "p.yaml:3: rules[0].filter: not a filter expression"),
        (rules("{use: x, family: ipv6}"), "p.yaml:3: rules[0].family: family goes with"),
        (
            rules("{use: direct, family: ipv6,\n     hosts: [192.0.2.1]}"),
            "p.yaml:4: rules[0].hosts: Proxy family directive ipv6 contradicts IPv4 literal host",
        ),
        (rules("use:\n      hots: a"), "p.yaml:4: rules[0].use.hots: unknown key"),
        (rules("use:\n      host: 127.0.0.1\n      url: x"), "p.yaml:4: rules[0].use.host: cannot"),
        (rules("{use: {http://u:hunter!2@h: }}"), "p.yaml:3: rules[0].use.?: unknown key"),
        (rules("{use: 'http://u:hunter!2@h:1'}"), "p.yaml:3: rules[0].use: names no proxy or pool"),
        (proxies("{name: a, host: h, familiy: ipv6}"), "p.yaml:3: proxies[0].familiy: unknown key"),
        (proxies("{name: a, host: h, family: IPv6}"), "p.yaml:3: proxies[0].family: "),
        (proxies("{name: a, host: h, password: 5}"), "p.yaml:3: proxies[0].password: a text is"),
        (proxies("{name: a, host: 'u:hunter!2@h'}"), "p.yaml:3: proxies[0].host: "),
        (
            proxies("{name: a, host: '::1', family: ipv4}"),
            "Proxy family directive ipv4 contradicts IPv6 literal host",
        ),
        (proxies("{name: a, host: h, password_env: NO}"), "p.yaml:3: proxies[0].password_env: "),
        (proxies("{name: a, host: h, password_file: n}"), "password_file: cannot be read: No such"),
        (proxies("{name: a, host: h}", "{name: a, host: g}"), "p.yaml:4: proxies[1].name: 'a' is"),
        (
            proxies("{name: upstream, host: h}"),
            "p.yaml:3: proxies[0].name: 'upstream' is a reserved",
        ),
        (
            "version: 1\npools:\n  - name: a\n    members:\n      - b",
            "p.yaml:5: pools[0].members[0]: 'b' names no proxy",
        ),
        (
            pools("name: a", "  members: []", "  strategy: fastest"),
            "p.yaml:5: pools[0].strategy: strategy must be one of first, round-robin, random",
        ),
        (pools("name: a", "  members:", "    - ''"), "p.yaml:5: pools[0].members[0]: an empty"),
        (pools("name: a", "  members:", "    - 7"), "p.yaml:5: pools[0].members[0]: write a name"),
        (
            pools("name: a", "  members:", "    - name: b", "      weight: 0"),
            "p.yaml:6: pools[0].members[0].weight: ",
        ),
        (
            pools("name: a", "  members:", "    - {name: b,", "       weigth: 2}"),
            "p.yaml:6: pools[0].members[0].weigth: unknown key",
        ),
        (
            pools("name: a", "  members:", "    - {name: b, weight: 2}"),
            "p.yaml:5: pools[0].members[0]: 'b' names no proxy",
        ),
        (
            pools("{name: a, members: [], sticky_by: header}"),
            "p.yaml:3: pools[0].sticky_by: sticky_by must be client, user, host or header:NAME",
        ),
        (pools("{name: a, members: [], failover: 6}"), "p.yaml:3: pools[0].failover: "),
        (pools("{name: a, members: [], checks: 60s}"), "p.yaml:3: pools[0].checks: a mapping is"),
        (
            pools("name: a", "  members: []", "  checks:", "    every: 1 day"),
            "p.yaml:6: pools[0].checks.every: a time from 1s to 24h is expected",
        ),
        (
            pools("name: a", "  members: []", "  checks:", "    url:", "      ipv4: nowhere"),
            "p.yaml:7: pools[0].checks.url.ipv4: Invalid URL",
        ),
        (
            pools("name: a", "  members: []", "  checks:", "    url: {}"),
            "p.yaml:6: pools[0].checks.url: a URL for ipv4, for ipv6 or for both",
        ),
        (
            pools("name: a", "  members: []", "  checks:", "    hunter!2: 1"),
            "p.yaml:6: pools[0].checks.?: unknown key",
        ),
        (proxies("{name: a, host: h, helth: watch}"), "p.yaml:3: proxies[0].helth: unknown key"),
        (proxies("{name: a, host: h, max_connections: no}"), "proxies[0].max_connections: "),
        (
            proxies("name: a\n    host: h\n    tags:\n      - eu\n      - a b"),
            "p.yaml:7: proxies[0].tags[1]: a tag holds no space and no comma",
        ),
        (
            proxies("name: a\n    host: h\n    exit_in:\n      - 192.0.2.0/24\n      - home"),
            "p.yaml:7: proxies[0].exit_in[1]: Invalid exit: write 192.0.2.0/24",
        ),
        (
            proxies("name: a\n    host: h\n    exit_enforce: true"),
            "p.yaml:5: proxies[0].exit_enforce: exit_enforce needs an expected exit",
        ),
        (
            proxies("name: a\n    host: h\n    exit_family: ipv6\n    exit_in: [192.0.2.1]"),
            "p.yaml:6: proxies[0].exit_in: 192.0.2.1/32 is no IPv6 network, but exit_family is",
        ),
        (proxies("name: a\n    host: h\n    exit_family:"), "p.yaml:5: proxies[0].exit_family: is"),
    ],
)
def test_problem_names_file_line_and_key(text: str, message: str) -> None:
    assert message in problems(text)


def test_all_problems_are_reported_together_in_order_of_lines() -> None:
    text = """\
version: 1
proxies:
  - {name: bad, host: 127.0.1}
  - {name: url, url: nonsense}
  - {name: v4, host: h, family: ipv4}
  - {name: v6, host: h, family: ipv6}
pools:
  - {name: mixed, members: [v4, v6, bad, url]}
rules:
  - {use: bad}
  - {use: gone}
  - {use: direct, filter: "~~"}
default: maybe
"""
    keys = [line.split(": ")[0] for line in problems(text).splitlines()]
    assert keys == [f"p.yaml:{line}" for line in (3, 4, 8, 11, 12, 13)]


def test_error_carries_the_problems_as_values() -> None:
    with pytest.raises(InvalidEntry) as caught:
        parse(rules("{use: gone}"))
    assert isinstance(caught.value, PolicyFileError)
    [problem] = caught.value.problems
    assert (problem.line, problem.key, caught.value.field) == (3, "rules[0].use", "rules[0].use")
    assert caught.value.status == 400


def test_file_is_read_with_secrets_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter!2\n")
    secret.chmod(0o600)
    path.write_text("\ufeff" + proxies("{name: a, host: h, password_file: secret.txt}"), "utf-8")
    [proxy] = load_policy(path, compile_word, {}).proxies
    assert proxy.password.get_secret_value() == "hunter!2"
    secret.chmod(0o644)
    with pytest.raises(PolicyFileError, match=r"password_file: can be read by others; make its"):
        load_policy(path, compile_word, {})
    secret.rename(tmp_path / "moved")
    secret.symlink_to(tmp_path / "moved")
    with pytest.raises(PolicyFileError, match="password_file: cannot be used: it is a symbolic"):
        load_policy(path, compile_word, {})


@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, lambda path: path.write_bytes(b"\xff"), lambda path: path.write_text("[")],
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    path = tmp_path / "policy.yaml"
    path.touch()
    spoil(path)
    with pytest.raises(PolicyFileError) as caught:
        load_policy(path, compile_word, {})
    assert str(caught.value).startswith(f"{path}:1: ")


_PIECES = [
    *"{}[]:,&*!|>'\"%@#?- \n\t~<",
    *("null", "true", "1", "0.5", "2020-01-01", "&a ", "*a", "<<: ", "!!set ", "? ", "\x00", "é"),
    *("host", "use: {", "url: ", "http://u:hunter!2@h", "name: dc", "direct", "\ud800", "9" * 5000),
    *("password: hunter!2", "password_file: hunter!2", "family: ipv6", "hosts: []"),
]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.sampled_from(_PIECES))))
def test_a_spoilt_policy_raises_only_what_it_may_and_shows_no_secret(
    edits: list[tuple[float, int, str]],
) -> None:
    text = GOOD
    for place, removed, added in edits:
        at = int(place * len(text))
        text = text[:at] + added + text[at + removed :]
    message = message_of(text)
    # A key of plain letters has to be named; this password has none of its own.
    assert "hunter!2" not in message
    for line in message.splitlines():
        assert re.fullmatch(r"p\.yaml:[1-9][0-9]*: [\w\[\].?-]+: .+", line)


@given(st.text())
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    with pytest.raises(PolicyFileError):
        parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "version",
                        "proxies",
                        "pools",
                        "rules",
                        "default",
                        "name",
                        "host",
                        "url",
                        "use",
                        "hosts",
                        "clients",
                        "ports",
                        "filter",
                        "members",
                        "password_env",
                        "family",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_a_policy_or_a_policy_error(data: object) -> None:

    message_of(json.dumps(data))


# --- a file that is being written


class Written:
    """A policy file with a clock; ``while_waiting`` changes it while its reader waits."""

    def __init__(self, path: Path, text: str, age: float) -> None:
        self.path = path
        self.path.write_text(text)
        self.now = self.path.stat().st_mtime + age
        self.slept: list[float] = []
        self.more: list[str] = []
        self.set_back = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds - self.set_back
        self.set_back = 0.0
        if self.more:
            with self.path.open("a") as file:
                file.write(self.more.pop(0))
            os.utime(self.path, (self.now, self.now))

    def read(self) -> str:
        return read_policy(
            self.path, now=lambda: self.now, sleep=self.sleep, clock=lambda: sum(self.slept)
        )


def test_fifo_or_other_special_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.yaml")
    with pytest.raises(PolicyFileError, match="it is not a regular file") as caught:
        read_policy(tmp_path / "p.yaml")
    assert caught.value.unread


def test_file_that_stood_still_for_a_moment_is_read_at_once(tmp_path: Path) -> None:
    written = Written(tmp_path / "p.yaml", "version: 1\r\n", MOMENT)
    assert written.read() == "version: 1\n"
    assert written.slept == []


def test_file_that_was_just_written_is_given_a_moment(tmp_path: Path) -> None:
    written = Written(tmp_path / "p.yaml", "version: 1\n", 0.1)
    assert written.read() == "version: 1\n"
    assert written.slept == [pytest.approx(MOMENT - 0.1)]


def test_file_whose_clock_is_ahead_is_given_a_moment_too(tmp_path: Path) -> None:
    written = Written(tmp_path / "p.yaml", "version: 1\n", -3600)
    assert written.read() == "version: 1\n"
    assert written.slept == [MOMENT]


def test_file_that_is_written_meanwhile_is_read_when_it_is_whole(tmp_path: Path) -> None:
    written = Written(tmp_path / "p.yaml", "version: 1\n", 0)
    written.more = ["default:", " refuse\n"]
    assert written.read() == "version: 1\ndefault: refuse\n"


@pytest.mark.parametrize("set_back", [0.0, 3600.0])
def test_file_that_is_written_all_the_time_is_not_read(tmp_path: Path, set_back: float) -> None:
    """The wait does not grow if the clock is set back meanwhile."""
    written = Written(tmp_path / "p.yaml", "version: 1\n", 0)
    written.more = ["# more\n"] * 1000
    written.set_back = set_back
    with pytest.raises(PolicyFileError, match="it is being written") as caught:
        written.read()
    assert caught.value.unread
    assert sum(written.slept) <= 1.5
    assert sum(written.slept) < 1.5


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_file_that_cannot_be_read_may_be_another_time(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.yaml"

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("egress_policy.policy_file.parse._open", fail)
    with pytest.raises(PolicyFileError, match=f"cannot be read: {os.strerror(number)}") as caught:
        load_policy(path, compile_word)
    assert caught.value.unread


def test_password_that_cannot_be_read_may_be_another_time_and_a_wrong_key_is_one(
    tmp_path: Path,
) -> None:
    path, secret = tmp_path / "p.yaml", tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o644)
    entry = "{name: exit, host: proxy.test, password_file: secret}"
    path.write_text(proxies(entry))
    with pytest.raises(PolicyFileError, match="can be read by others") as caught:
        load_policy(path, compile_word)
    assert caught.value.unread
    path.write_text(proxies(entry.replace("host", "hots")))
    secret.chmod(0o600)
    with pytest.raises(PolicyFileError, match="unknown key") as caught:
        load_policy(path, compile_word)
    assert not caught.value.unread


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("rules: [{use: direct, family: }]", "rules[0].family"),
        ("rules: [{use: direct, target_family: ~}]", "rules[0].target_family"),
        ("proxies: [{name: p, host: h.test, target_family: }]", "proxies[0].target_family"),
        ("proxies: [{name: p, host: h.test, family: null}]", "proxies[0].family"),
        ("rules: [{use: {host: h.test, target_family: }}]", "rules[0].use.target_family"),
    ],
)
def test_pin_that_was_not_filled_in_is_not_none(text: str, key: str) -> None:
    with pytest.raises(PolicyFileError) as caught:
        parse(f"version: 1\n{text}\n")
    assert caught.value.problems[0].key == key


@pytest.mark.parametrize(
    "text",
    [
        "proxies: [{name: a, host: h.test, s3cretPw9}]",
        "s3cretPw9: {}",
        "default: {s3cretPw9: , s3cretPw9: }",
    ],
)
def test_value_in_the_place_of_a_key_is_not_shown(text: str) -> None:
    with pytest.raises(PolicyFileError) as caught:
        parse(f"version: 1\n{text}\n")
    assert "s3cretPw9" not in str(caught.value)
    assert "?" in str(caught.value)
