import pytest
from pydantic import ValidationError

from egress_policy.errors import InvalidEntry
from egress_policy.model.subscription import ListSubscription, parse_list_url

LEAST = {"name": "seller", "url": "https://list.example/p?token=s3cret", "via": "direct"}


def test_least_subscription_is_fetched_daily() -> None:
    found = ListSubscription.model_validate(LEAST)
    assert found.model_dump(exclude={"url"}) == {
        "name": "seller",
        "via": "direct",
        "every_hours": 24,
        "type": None,
        "tags": (),
        "status": "active",
    }
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize("field", LEAST)
def test_name_url_and_way_are_required(field: str) -> None:
    with pytest.raises(ValidationError):
        ListSubscription.model_validate({key: LEAST[key] for key in LEAST if key != field})


@pytest.mark.parametrize(
    "url",
    [
        *("", "list.example", "ftp://list.example/", "ws://list.example/", "https://"),
        *("https://u:s3cret@list.example/", "https://list.example/s3cret\n"),
        *("https://list.example/s3crét", "https://list.example/s3cret " + "x", "http://h:0/"),
        "https://list.example/s3cret" + "x" * 2000,
    ],
)
def test_bad_url_is_rejected_and_not_quoted(url: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        parse_list_url(url)
    assert caught.value.field == "url"
    with pytest.raises(ValidationError) as raised:
        ListSubscription.model_validate({**LEAST, "url": url})
    assert "s3cr" not in str(caught.value) + str(raised.value)


def test_url_keeps_its_query_and_loses_its_fragment() -> None:
    url = parse_list_url("https://list.example:8443/p?a=b#c")
    assert (url.host, url.port, url.path) == ("list.example", 8443, "/p?a=b")
