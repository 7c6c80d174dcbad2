"""Sessions of the page: opened by the token or a one-time link."""

from typing import Annotated, Final

from pydantic import Field, model_validator

from ...errors import InvalidEntry
from ..calls import Call, Response
from ..inputs import Input
from ..routes import Routes

ROUTES: Final = Routes()
_PATH: Final = "/api/v1/session"
_AUTHENTICATED: Final = {
    "type": "object",
    "properties": {"authenticated": {"const": True}},
    "required": ["authenticated"],
}
_SESSION: Final = {
    "type": "object",
    "properties": {"key": {"type": "string", "description": "For the header X-Egress-Session-Key"}},
    "required": ["key"],
}


class SessionBody(Input):
    """Either the token or the word of a one-time link."""

    token: Annotated[str, Field(max_length=2000)] | None = None
    link: Annotated[str, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "SessionBody":
        if (self.token is None) == (self.link is None):
            raise InvalidEntry("either token or link is expected", "token")
        return self


@ROUTES.add("GET", _PATH, _AUTHENTICATED)
async def show_session(_: Call) -> Response:
    """Say whether the session is good."""
    return Response({"authenticated": True})


@ROUTES.add("POST", _PATH, _SESSION, body=SessionBody, access="anybody", errors=(401, 429))
async def open_session(call: Call) -> Response:
    """Open a session of the page by token or one-time link."""
    gate = call.gate
    if call.body.link is not None:
        gate.redeem_link(call.body.link, call.peer)
    else:
        gate.require_token(call.body.token, call.peer)
    session = gate.open_session(call.headers)
    cookie = f"{gate.cookie}={session.value}; Path=/; HttpOnly; SameSite=Strict"
    return Response({"key": session.key}, headers={"Set-Cookie": cookie})


@ROUTES.add("DELETE", _PATH, (204, None))
async def close_session(call: Call) -> Response:
    """Log out."""
    call.gate.close_session(call.headers)
    gone = f"{call.gate.cookie}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
    return Response(status=204, headers={"Set-Cookie": gone})
