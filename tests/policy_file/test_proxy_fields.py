from typing import Any

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.policy_file.proxy_fields import complete_proxy

FILES = {"secret": "from file\r\n", "plain": " kept ", "empty": "\n"}


def read_file(name: str) -> str:
    if name == "binary":
        return b"\xff".decode()
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[name]


def complete(**entry: Any) -> dict[str, Any]:
    return complete_proxy(entry, {"SECRET": "from env", "EMPTY": ""}, read_file)


def test_entry_of_plain_fields_stays_as_it_is() -> None:
    assert complete(name="a", host="h", password="p", x=1) == {
        "name": "a",
        "host": "h",
        "password": "p",
        "x": 1,
    }


def test_password_comes_from_the_named_source() -> None:
    assert complete(password_env="SECRET") == {"password": "from env"}
    assert complete(password_file="secret") == {"password": "from file"}
    assert complete(password_file="plain") == {"password": " kept "}


def test_url_is_taken_apart_and_a_name_may_be_in_it() -> None:
    assert complete(url="socks5://u:p@[2001:db8::1]?family=ipv6#de-1") == {
        "type": "socks5",
        "host": "2001:db8::1",
        "port": 1080,
        "username": "u",
        "password": "p",
        "family": "ipv6",
        "name": "de-1",
    }


def test_keys_beside_url_add_what_it_does_not_say() -> None:
    entry = complete(name="own", url="http://u@h.example#other", password_env="SECRET", notes="n")
    assert (entry["name"], entry["password"], entry["notes"]) == ("own", "from env", "n")


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"password": "hunter2", "password_env": "SECRET"}, "password_env"),
        ({"password_env": "SECRET", "password_file": "secret"}, "password_file"),
        ({"password": "x", "url": "http://u:hunter2@h.example"}, "password"),
        ({"password_env": "SECRET", "url": "http://u:hunter2@h.example"}, "password_env"),
        ({"password_env": "UNSET_hunter2"}, "password_env"),
        ({"password_env": "EMPTY"}, "password_env"),
        ({"password_env": "hunter2 it is"}, "password_env"),
        ({"password_env": 5}, "password_env"),
        ({"password_file": "hunter2"}, "password_file"),
        ({"password_file": "empty"}, "password_file"),
        ({"password_file": "binary"}, "password_file"),
        ({"password_file": 5}, "password_file"),
        ({"url": 5}, "url"),
        ({"url": "u:hunter2@h.example"}, "url"),
        ({"url": "http://u:hunter2@h.example:0"}, "url"),
        ({"url": "http://h.example:1?hunter2"}, "url"),
        ({"url": "http://u:hunter2@h.example", "host": "h"}, "host"),
        ({"url": "http://u:hunter2@h.example", "family": "ipv6"}, "family"),
    ],
    ids=str,
)
def test_error_names_the_key_and_no_secret(entry: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        complete(**entry)
    assert caught.value.field == field
    assert "hunter2" not in str(caught.value)
