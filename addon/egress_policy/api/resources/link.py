"""A link to the page for whoever has the token: the command line opens or prints it."""

from typing import Final

from ..calls import Call, Response
from ..inputs import Input
from ..routes import PREFIX, Routes

ROUTES: Final = Routes()
_LINK: Final = {
    "type": "object",
    "properties": {
        "link": {"type": "string", "description": "Opens the page, logged in, once"},
        "file": {
            "type": "string",
            "description": "The URL of a file here that leads a browser to the link; may be empty",
        },
    },
    "required": ["link", "file"],
}


class LinkBody(Input):
    """``file`` asks for a file that leads a browser of this machine to the link, within a minute:
    everybody on a machine can see the arguments of a browser."""

    file: bool = False


@ROUTES.add("POST", f"{PREFIX}/link", _LINK, body=LinkBody)
async def make_link(call: Call) -> Response:
    """Make a link that opens the page, logged in, once and within 15 minutes."""
    if call.body.file:
        try:
            page = call.links.page()
        except OSError:
            pass  # the link alone does
        else:
            return Response({"link": page.link, "file": page.url})
    return Response({"link": call.links.link(), "file": ""})
