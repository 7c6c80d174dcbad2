"""URLs by the address family in which they are asked for."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from ..errors import InvalidEntry
from ..sentence import Sentence
from .target_url import parse_test_url


def _url(value: str) -> str:
    parse_test_url(value)
    return value


class FamilyUrls(BaseModel):
    """A URL for each family, at least one. Each may be http or https."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ipv4: Annotated[str, AfterValidator(_url)] | None = None
    ipv6: Annotated[str, AfterValidator(_url)] | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.ipv4 and not self.ipv6:
            raise InvalidEntry(
                Sentence("family_urls", "a URL for ipv4, for ipv6 or for both is expected")
            )
        return self


def echo_of(settings: Mapping[str, str]) -> FamilyUrls | None:
    """The setting ``echo`` of the registry: who answers with the address that it sees, by family.
    ``None`` if it is not set, or cannot be read after an edit by hand."""
    try:
        return FamilyUrls.model_validate_json(settings["echo"])
    except (KeyError, ValueError):
        return None
