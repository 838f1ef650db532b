"""Bodies of requests as the guard lets them through: not too large, and no form of a web page where JSON is meant."""

import re
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.api.refusals import refuse

MAX_BODY = 256 * 2**20  # bytes
MAX_FORM = 2**16  # bytes of the login form
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")  # that any web page may send anywhere
JSON_AREAS = ("/sdapi/", "/api/")
UPLOADS = ("/api/v1/inputs", "/api/v1/png-info")  # which take files as forms do; forms of other sites are refused by their origin
BODYLESS = re.compile(r".*/(interrupt|skip|refresh-[a-z]+|(un|re)load-checkpoint|server-[a-z]+)")  # whatever comes is not read


def refusal_of_length(scope: Scope) -> Response | None:
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isdecimal():
        return refuse(400, "Content-Length is not a number")
    return _too_large() if len(length) > 18 or int(length) > MAX_BODY else None


def refusal_of_kind(scope: Scope, path: str) -> Response | None:
    """Forms are refused where JSON is read: a page of another site may send them without asking. path: below --subpath."""
    headers = Headers(scope=scope)
    path = path.rstrip("/")  # a slash at the end leads to the path without it
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    uploads = path in UPLOADS and kind == "multipart/form-data"
    if kind not in FORM_TYPES or empty or uploads or not path.startswith(JSON_AREAS) or BODYLESS.fullmatch(path):
        return None
    return refuse(415, f"this takes JSON, not {kind}; send it with the header Content-Type: application/json")


async def form_of(request: Request) -> dict[str, str] | None:
    """The fields of a small form; None if it is too large."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM:
                return None
    except ClientDisconnect:
        return {}
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).items()}


def _too_large() -> Response:
    """The connection stays open, so that the server reads what still comes, keeping nothing: closed, who sends would miss the answer."""
    return refuse(413, f"the request is larger than {MAX_BODY // 2**20} MiB")


async def limited(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run `app`; a body without a length that grows past MAX_BODY ends in 413."""
    size = 0
    started = False

    async def counted() -> Message:
        nonlocal size
        message = await receive() if size <= MAX_BODY else {"type": "http.disconnect"}
        size += len(message.get("body", b""))
        return message if size <= MAX_BODY else {"type": "http.disconnect"}

    async def unless_too_large(message: Message) -> None:
        nonlocal started
        if size <= MAX_BODY or started:
            started = True
            await send(message)

    try:
        await app(scope, counted, unless_too_large)
    except Exception:  # whatever the app makes of a body that is cut off
        if size <= MAX_BODY or started:
            raise
    if size > MAX_BODY and not started:
        await _too_large()(scope, receive, send)
