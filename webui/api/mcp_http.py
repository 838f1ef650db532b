"""The tools of mcp.py at /api/v1/mcp: the Model Context Protocol over streamable HTTP, behind the guard, with the rights of who asks."""

import importlib.util
from typing import Any
from urllib.parse import unquote

import anyio
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.api.bodies import MAX_BODY
from webui.api.envelope import envelope
from webui.api.v1 import PREFIX

PATH = f"{PREFIX}/mcp"
ABSENT = "assistants need the package mcp here: pip install 'mcp>=2,<3', and start Easel again"
TOLD = (b"authorization", b"cookie", b"x-easel-client")  # by which Easel knows who asks


def mcp_route(app: ASGIApp) -> Route:
    """The route; app: all of Easel, which the tools ask. Nothing is told unasked, so there is no stream to GET and no session to DELETE."""
    return Route(PATH, _Tools(app), methods=["POST"], include_in_schema=False)


class _Tools:
    """Each request is a session of its own: nothing is kept between two, and the tools act for whoever sent it."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if importlib.util.find_spec("mcp") is None:
            await envelope(501, "HTTPException", ABSENT, ABSENT)(scope, receive, send)
            return
        from mcp.server.transport_security import TransportSecuritySettings

        from webui.api.mcp import Easel, make_server  # a second, for those who need it

        async def fetch(method: str, path: str, data: bytes | None, kind: str) -> tuple[int, bytes]:
            return await _asked(self._app, scope, method, PREFIX + path, data, kind)

        server = make_server(Easel(fetch, reads_files=False))
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the guard has looked
        server.streamable_http_app(stateless_http=True, max_request_body_size=MAX_BODY, transport_security=security)
        async with server.session_manager.run():
            await server.session_manager.handle_request(scope, receive, send)


async def _asked(app: ASGIApp, by: Scope, method: str, path: str, data: bytes | None, kind: str) -> tuple[int, bytes]:
    """Status and body of what `app` answers within this process to the one who sent the request `by`."""
    headers = [(name, value) for name, value in by["headers"] if name in TOLD]
    headers += [(b"host", b"localhost"), (b"content-type", kind.encode())] if data is not None else [(b"host", b"localhost")]
    scope: Scope = {**{key: by[key] for key in ("type", "asgi", "http_version", "scheme", "server", "client")}, "method": method}
    scope |= {"root_path": "", "path": unquote(path), "raw_path": path.encode(), "query_string": b"", "headers": headers}
    bodies = [data or b""]
    told: dict[str, Any] = {"status": 500, "body": b""}

    async def receive() -> Message:
        if not bodies:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            told["status"] = message["status"]
        told["body"] += message.get("body", b"")

    await app(scope, receive, send)
    return told["status"], told["body"]
