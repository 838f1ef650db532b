"""How every route of Easel fails: JSON of one shape, in a sentence; and where paths that are almost right lead."""

import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from webui.core.errors import EaselError

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")  # that routes of ours may have
QUERY = "%&=+/?:@!$'()*,;~-._"  # what stands for itself in a query
log = logging.getLogger(__name__)


class EnvelopeRoute(APIRoute):
    """A route whose every failure is JSON of the shape {"error", "detail", "body", "errors"}."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_explain(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                problems = [_problem(item) for item in error.errors()]
                told = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in problems)
                return envelope(422, "RequestValidationError", problems, told)
            except HTTPException as error:
                return envelope(error.status_code, "HTTPException", error.detail, str(error.detail))
            except EaselError as error:
                return envelope(error.status, type(error).__name__, str(error), str(error))
            except Exception as error:
                log.exception("%s %s failed", request.method, request.url.path)
                return envelope(500, type(error).__name__, "Easel failed here; its log says more", str(error))

        return handle_or_explain


class WrongMethod(BaseRoute):
    """Stands behind `routes` and before the page, which answers everything: a path of ours that is asked with another method is a 405."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = tuple(routes)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """FULL where one of the routes has the path, but none the method too (then it would not have come here)."""
        partial = any(route.matches(scope)[0] is Match.PARTIAL for route in self._routes)
        return (Match.FULL if partial else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the methods that there are."""
        methods = ", ".join(method for method in METHODS if any(self._full(route, {**scope, "method": method}) for route in self._routes))
        sentence = f"{scope['path'][:100]} is not asked by {scope['method']}; use {methods}"
        await envelope(405, "HTTPException", sentence, sentence, {"Allow": methods})(scope, receive, send)

    @staticmethod
    def _full(route: BaseRoute, scope: Scope) -> bool:
        return route.matches(scope)[0] is Match.FULL


class TrailingSlash(BaseRoute):
    """Stands where WrongMethod does: a path of ours with a slash at its end is a 307 to the path without it, as A1111's is.

    The way is told without scheme and host, which a proxy may have changed, and never leads to another server.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = tuple(routes)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """FULL where one of the routes has the path without its last slashes, for whatever method."""
        path = scope["path"]
        if scope["type"] != "http" or not path.endswith("/") or path.startswith("//") or not path.rstrip("/"):
            return Match.NONE, {}
        bare = {**scope, "path": path.rstrip("/")}
        known = any(route.matches(bare)[0] is not Match.NONE for route in self._routes)
        return (Match.FULL if known else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body first, which the client may send to its end before it looks for an answer."""
        try:
            async for _ in Request(scope, receive).stream():
                pass
        except ClientDisconnect:
            return
        query = quote(scope["query_string"], safe=QUERY)
        target = quote(scope["path"].rstrip("/")) + (f"?{query}" if query else "")
        await Response(status_code=307, headers={"Location": target})(scope, receive, send)


def envelope(status: int, name: str, detail: Any, errors: str, headers: Mapping[str, str] | None = None) -> Response:
    """A failure: `detail` is a sentence, or a list for a request of the wrong shape."""
    text = json.dumps({"error": name, "detail": detail, "body": "", "errors": errors})  # ASCII: carries broken Unicode too
    return Response(text, status, headers, media_type="application/json")


def _problem(item: dict[str, Any]) -> dict[str, Any]:
    """A validation error without the value that caused it, which may be a whole picture or not fit into JSON."""
    place = [part if isinstance(part, int) else str(part)[:100] for part in item["loc"]]
    return {"type": item["type"], "loc": place, "msg": item["msg"][:500]}
