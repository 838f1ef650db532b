"""What guests may ask: to make pictures, to see their own, and what the page needs. All else is refused, also what is built later.

Routes that tell of pictures and jobs look by themselves after whose they are (`roles.is_guest`, the browser's client id).
"""

import re

from starlette.types import Scope

READING = ("GET", "HEAD")
OWN_AREAS = ("/internal", "/sdapi", "/api")  # where only what is listed below is allowed

READ = re.compile(
    r"/internal/(ping|pending-tasks|styles|complete|models|models/.+/(thumbnail|details)|pictures/\d+|inputs/[0-9a-f]+|ws/[^/]+"
    r"|jobs/[^/]+|jobs/[^/]+/preview\.jpg|replay/[^/]+|gallery|gallery/[^/]+|gallery/\d+/thumbnail)"
    r"|/sdapi/v1/(?!cmd-flags)[a-z0-9-]+"
)
CHANGE = re.compile(
    r"/internal/(inputs|png-info|styles/applied|replay|progress|jobs/[^/]+/(interrupt|skip)|gallery/(change|trash|restore|delete|forget|again|empty-trash))"
    r"|/sdapi/v1/(txt2img|img2img|png-info|interrogate|extra-single-image|extra-batch-images)"
    r"|/gradio_api/.*|/login"
)


def may_ask(scope: Scope, path: str) -> bool:
    """Whether a guest's request for `path`, below --subpath, is answered. Pictures of others are refused by their route.

    With slashes at its end a path leads only to the path without them (envelope.TrailingSlash), where the guest is looked at again.
    """
    path = path.rstrip("/")
    if scope["type"] == "websocket" or scope["method"] in READING:
        mine = any(path == area or path.startswith(f"{area}/") for area in OWN_AREAS)
        return not mine or READ.fullmatch(path) is not None
    return scope["method"] == "POST" and CHANGE.fullmatch(path) is not None
