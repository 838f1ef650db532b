"""How every route of Easel fails: JSON of one shape, in a sentence."""

import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from webui.core.errors import EaselError

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


def envelope(status: int, name: str, detail: Any, errors: str) -> Response:
    """A failure: `detail` is a sentence, or a list for a request of the wrong shape."""
    text = json.dumps({"error": name, "detail": detail, "body": "", "errors": errors})  # ASCII: carries broken Unicode too
    return Response(text, status, media_type="application/json")


def _problem(item: dict[str, Any]) -> dict[str, Any]:
    """A validation error without the value that caused it, which may be a whole picture or not fit into JSON."""
    place = [part if isinstance(part, int) else str(part)[:100] for part in item["loc"]]
    return {"type": item["type"], "loc": place, "msg": item["msg"][:500]}
