"""The guard that stands outside page, API and WebSockets alike: who may ask, from which page, for which host, with how large a body.

It is one ASGI middleware. Browsers log in once and carry a cookie; programs send HTTP Basic. Gradio's own login is not used.
"""

import base64
import binascii
import hashlib
import hmac
import html
import ipaddress
import json
import math
import secrets
import socket
import time
from collections import deque
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.core.settings import Credentials, Settings

MAX_BODY = 256 * 2**20  # bytes
MAX_FORM = 2**16  # bytes of the login form
SESSION_SECONDS = 14 * 24 * 3600
WRONG_PASSWORDS = 20  # per client in WINDOW seconds
WINDOW = 60.0
MAX_CLIENTS = 10_000  # clients whose wrong passwords are remembered
READING = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/internal/ping",)  # tells nothing: for health checks
LOGIN_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Easel: log in</title>
<style>:root{color-scheme:light dark;font:16px system-ui,sans-serif}body{display:grid;place-content:center;min-height:90vh}
form{display:grid;gap:.8rem;width:18rem}input,button{font:inherit;padding:.5rem}label{display:grid;gap:.2rem}[role=alert]{color:#c22}</style>
<form method="post" action="{action}"><h1>Easel</h1>{message}<input type="hidden" name="next" value="{next}">
<label>User<input name="username" autocomplete="username" autofocus required></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button></form></html>"""


class Guard:
    """Refuses what must not reach `app`: unknown hosts, other sites' pages, wrong or missing passwords, bodies that are too large."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app: ASGIApp = _Unshared(app)
        self._origins = {origin.rstrip("/").lower() for origin in settings.cors_allow_origins}
        if settings.cors_allow_origins:
            origins = [origin.rstrip("/") for origin in settings.cors_allow_origins]
            self.app = CORSMiddleware(self.app, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], allow_credentials=True)
        self._hosts = _own_names(settings) | {name for name in map(_host_of_origin, self._origins) if name}
        self._any_address = settings.exposed
        self._prefix = f"/{settings.subpath.strip('/')}" if settings.subpath.strip("/") else ""
        self._page = Door(settings.gradio_auth)
        self._api = self._page if settings.api_auth in ((), settings.gradio_auth) else Door(settings.api_auth)
        self._sessions = Sessions(f"easel-session-{settings.port}")
        self._wrong = WrongPasswords()

    def allow_host(self, name: str) -> None:
        """Let requests for this host pass, too: the name under which --share made the server known."""
        self._hosts.add((urlsplit(name).hostname or name) if "//" in name else name.lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scope = self._prefixed_once(scope)
        refusal = self._refusal_of_origin(scope)
        if scope["type"] == "websocket":
            await self._websocket(refusal, scope, receive, send)
            return
        send = _marked(send)
        if refusal is None and self._page.locked and self._path(scope) in ("/login", "/logout"):
            refusal = await self._login(Request(scope, receive))
        refusal = refusal or self._refusal_of_stranger(scope) or _refusal_of_length(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await _limited(self.app, scope, receive, send)

    async def _websocket(self, refusal: Response | None, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal or self._refusal_of_stranger(scope):
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})  # before it is accepted: HTTP 403
        else:
            await self.app(scope, receive, send)

    def _prefixed_once(self, scope: Scope) -> Scope:
        """uvicorn puts --subpath before every path, as a proxy that strips it wants; who asks directly has it there already."""
        path, twice = scope["path"], self._prefix * 2
        if not self._prefix or (path != twice and not path.startswith(f"{twice}/")):
            return scope
        rest = path[len(self._prefix) :]
        return {**scope, "path": rest if rest != self._prefix else f"{rest}/", "raw_path": rest.encode()}

    def _path(self, scope: Scope) -> str:
        """The path below --subpath."""
        path: str = scope["path"]
        return path[len(self._prefix) :] if self._prefix and path.startswith(f"{self._prefix}/") else path

    # Host, Origin, Sec-Fetch-Site: which page asks, and under which name

    def _refusal_of_origin(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own(_host_name(host)):
            return _refuse(
                421,
                f"this server does not answer for the host {host[:100]!r}; use its address, or name that host "
                f"with --cors-allow-origins http://{host[:100]}",
            )
        origin = headers.get("origin", "").lower().rstrip("/")
        known = not origin or origin.partition("://")[2] == host.lower() or bool(self._origins & {origin, "*"})
        if not known and (scope["type"] == "websocket" or scope["method"] not in READING):
            return _refuse(403, f"pages of {origin[:100]} may not use this server; allow them with --cors-allow-origins {origin[:100]}")
        if headers.get("sec-fetch-site") == "cross-site" and not (origin and known) and not _is_visit(scope, headers):
            return _refuse(403, "another site's page may not use this server; allow it with --cors-allow-origins")
        return None

    def _is_own(self, name: str) -> bool:
        """Whether this server answers for the host. Any address does where the server is exposed: only names can be rebound by DNS."""
        if name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._any_address

    # Passwords and sessions

    def _refusal_of_stranger(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        path = self._path(scope)
        is_api = any(one == "/sdapi" or one.startswith("/sdapi/") for one in (path, scope["path"]))
        door = self._api if is_api else self._page
        preflight = scope.get("method") == "OPTIONS" and "access-control-request-method" in headers and bool(self._origins)
        if not door.locked or path in OPEN_PATHS or preflight:
            return None
        if door is self._page and self._sessions.has(headers):
            return None
        given = _basic(headers)
        if given is not None:
            if self._wrong.too_many(_client(scope)):
                return _too_many(self._wrong.wait(_client(scope)))
            if door.opens(*given):
                return None
            self._wrong.note(_client(scope))
        if is_api:
            return _refuse(401, "user and password are needed: send them by HTTP Basic", {"WWW-Authenticate": 'Basic realm="Easel API"'})
        if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return self._login_page(self._target(scope))
        return _refuse(401, "log in first: open this server's page, or send user and password by HTTP Basic")

    async def _login(self, request: Request) -> Response:
        """GET shows the form, POST checks it and sets the cookie; /logout takes the cookie away."""
        scope = request.scope
        if self._path(scope) == "/logout":
            answer: Response = RedirectResponse(f"{self._prefix}/login", 303)
            answer.delete_cookie(self._sessions.cookie)
            return answer
        if request.method != "POST":
            return self._login_page(f"{self._prefix}/", status=200)
        form = await _form(request)
        if form is None:
            return _refuse(413, "the login form is too large")
        wants_page = "text/html" in request.headers.get("accept", "")
        target = _safe_target(form.get("next", ""), f"{self._prefix}/")
        if self._wrong.too_many(_client(scope)):
            return _too_many(self._wrong.wait(_client(scope)))
        if not self._page.opens(form.get("username", ""), form.get("password", "")):
            self._wrong.note(_client(scope))
            if wants_page:
                return self._login_page(target, "User or password is wrong.")
            return _refuse(401, "user or password is wrong")
        answer = RedirectResponse(target, 303) if wants_page else JSONResponse({"success": True})
        self._sessions.start(answer, secure=scope["scheme"] == "https")
        return answer

    def _target(self, scope: Scope) -> str:
        """Path and query that were asked for, to go on with after the login."""
        query = scope.get("query_string", b"").decode("latin-1")
        return _safe_target(self._prefix + quote(self._path(scope)) + (f"?{query}" if query else ""), f"{self._prefix}/")

    def _login_page(self, target: str, message: str = "", status: int = 401) -> Response:
        note = f'<p role="alert">{html.escape(message)}</p>' if message else ""
        page = LOGIN_PAGE.replace("{action}", html.escape(f"{self._prefix}/login")).replace("{message}", note)
        headers = {"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Content-Security-Policy": "frame-ancestors 'none'"}
        return HTMLResponse(page.replace("{next}", html.escape(target)), status, headers)


class _Unshared:
    """`app` without the CORS headers that it makes by itself: Gradio's let pages of every other port of this machine read its answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def unshared(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
            await send(message)

        await self._app(scope, receive, unshared)


class Door:
    """One set of users. Passwords are kept as keyed hashes only, and compared in constant time."""

    def __init__(self, credentials: Credentials) -> None:
        self._key = secrets.token_bytes(32)
        self._known = [self._hash(user, password) for user, password in credentials]

    @property
    def locked(self) -> bool:
        return bool(self._known)

    def opens(self, user: str, password: str) -> bool:
        given = self._hash(user, password)
        return sum(hmac.compare_digest(given, known) for known in self._known) > 0  # all are compared, whichever matches

    def _hash(self, user: str, password: str) -> bytes:
        name = user.encode("utf-8", "surrogatepass")
        secret = password.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, b"%d:%b%b" % (len(name), name, secret), hashlib.sha256)


class Sessions:
    """Logins as signed cookies: end of validity (s of the process's clock, which nobody can set) and its signature; they end with it."""

    def __init__(self, cookie: str) -> None:
        self.cookie = cookie  # holds the port: browsers share cookies between the ports of a host
        self._key = secrets.token_bytes(32)

    def start(self, answer: Response, secure: bool) -> None:
        end = str(int(time.monotonic()) + SESSION_SECONDS)
        value = f"{end}.{self._sign(end)}"
        answer.set_cookie(self.cookie, value, max_age=SESSION_SECONDS, httponly=True, samesite="lax", secure=secure)

    def has(self, headers: Headers) -> bool:
        """Whether a cookie of a valid session came with the request."""
        for crumb in headers.get("cookie", "").split(";"):
            name, _, value = crumb.strip().partition("=")
            end, _, signature = value.partition(".")
            if name == self.cookie and hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(end).encode()):
                return int(end) > time.monotonic()  # a number: we signed it
        return False

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


class WrongPasswords:
    """Counts wrong passwords by client over the last WINDOW seconds; further tries are not even looked at until one has aged."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def too_many(self, client: str) -> bool:
        times = self._times.get(client)
        while times and times[0] <= time.monotonic() - WINDOW:
            times.popleft()
        return times is not None and len(times) >= WRONG_PASSWORDS

    def wait(self, client: str) -> int:
        """Seconds until the next try is looked at, at least 1."""
        times = self._times.get(client)
        return max(math.ceil(times[0] + WINDOW - time.monotonic()), 1) if times else 1

    def note(self, client: str) -> None:
        if len(self._times) >= MAX_CLIENTS and client not in self._times:
            del self._times[next(iter(self._times))]  # the one that has been here longest
        self._times.setdefault(client, deque()).append(time.monotonic())


def _own_names(settings: Settings) -> set[str]:
    """The names and addresses under which this machine is asked, in lower case."""
    names = {"localhost", "127.0.0.1", "::1", settings.host.lower()} - {"0.0.0.0", "::", ""}
    if settings.exposed:
        machine = socket.gethostname().lower()
        names |= {machine, f"{machine.partition('.')[0]}.local", machine.partition(".")[0]}
    return names


def _host_of_origin(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; "" if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        return (parts.hostname or "") if parts.port != 0 and parts.username is None and not (parts.path or parts.query) else ""
    except ValueError:
        return ""


def _is_visit(scope: Scope, headers: Headers) -> bool:
    """Whether somebody follows a link to a page of ours, in a window of its own."""
    navigates = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and navigates


def _basic(headers: Headers) -> tuple[str, str] | None:
    """User and password of HTTP Basic; None where there are none, or nothing that can be read."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(text.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def _client(scope: Scope) -> str:
    """Who asks: an address, or the /64 network of an IPv6 one, since one user has all of that."""
    address = str((scope.get("client") or ("",))[0])
    return str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False)) if ":" in address else address


def _safe_target(text: str, otherwise: str) -> str:
    """`text` if it stays on this server, else `otherwise`."""
    safe = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if safe and len(text) < 2000 else otherwise


async def _form(request: Request) -> dict[str, str] | None:
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


def _refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal in the API's error shape; ASCII, since the sentence may quote what was sent."""
    text = json.dumps({"error": "Refused", "detail": sentence, "body": "", "errors": sentence})
    return Response(text, status, headers, media_type="application/json")


def _too_many(seconds: int) -> Response:
    return _refuse(429, f"too many wrong passwords; try again in {seconds} seconds", {"Retry-After": str(seconds)})


def _refusal_of_length(scope: Scope) -> Response | None:
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isdecimal():
        return _refuse(400, "Content-Length is not a number")
    return _too_large() if len(length) > 18 or int(length) > MAX_BODY else None


def _too_large() -> Response:
    return _refuse(413, f"the request is larger than {MAX_BODY // 2**20} MiB", {"Connection": "close"})


async def _limited(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
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


def _marked(send: Send) -> Send:
    """`send` that adds X-Process-Time, the seconds until the answer began, and forbids browsers to guess at types of files."""
    start = time.perf_counter()

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Process-Time"] = f"{time.perf_counter() - start:.4f}"
            headers["X-Content-Type-Options"] = "nosniff"
        await send(message)

    return marked
