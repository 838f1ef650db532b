"""The guard that stands outside page, API and WebSockets alike: who may ask, from which page, for which host, how often, with what body.

It is one ASGI middleware. Browsers log in once and carry a cookie; programs send HTTP Basic. Gradio's own login is not used.
"""

import asyncio
import ipaddress
import socket
import time
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.api.bodies import form_of, limited, refusal_of_kind, refusal_of_length
from webui.api.doors import Door, RateLimit, Sessions, WrongPasswords, basic_credentials, client_of, is_near
from webui.api.guests import may_ask
from webui.api.refusals import login_page, refuse, too_many_passwords, too_many_requests
from webui.api.roles import GUEST
from webui.core.settings import Settings

READING = ("GET", "HEAD", "OPTIONS")
NEARER = 10  # times as many requests from this machine itself, where a proxy may stand for many
API_PATHS = ("/sdapi", "/api")  # behind the door of programs
OPEN_PATHS = ("/internal/ping",)  # tells nothing: for health checks


class Guard:
    """Refuses what must not reach `app`: unknown hosts, other sites' pages, wrong or missing passwords, too many and too large requests."""

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
        self._guests = Door(settings.guest_auth)
        self._sessions = Sessions(f"easel-session-{settings.port}")
        self._wrong = WrongPasswords()
        self._trying = asyncio.Lock()  # one password at a time, so that no flood of them can be counted too late
        self._far, self._near = RateLimit(settings.rate_limit), RateLimit(settings.rate_limit * NEARER)

    def allow_host(self, name: str) -> None:
        """Let requests for this host pass, too: the name under which --share made the server known."""
        self._hosts.add((urlsplit(name).hostname or name) if "//" in name else name.lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scope = self._prefixed_once(scope)
        if scope["type"] == "http":
            send = _marked(send)
        refusal = self._refusal_of_flood(scope) or self._refusal_of_origin(scope)
        if refusal is None and self._page.locked and scope["type"] == "http" and self._path(scope) in ("/login", "/logout"):
            refusal = await self._login(Request(scope, receive))
        refusal = refusal or await self._refusal_of_stranger(scope) or self._refusal_of_guest(scope)
        if scope["type"] == "websocket":
            await self._websocket(refusal, scope, receive, send)
            return
        refusal = refusal or refusal_of_length(scope) or refusal_of_kind(scope, self._path(scope))
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await limited(self.app, scope, receive, send)

    async def _websocket(self, refusal: Response | None, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})  # before it is accepted: HTTP 403
        else:
            await self.app(scope, receive, send)

    def _prefixed_once(self, scope: Scope) -> Scope:
        """A copy of the scope. uvicorn puts --subpath before every path, as a proxy that strips it wants; who asks directly has it there
        already."""
        path, twice = scope["path"], self._prefix * 2
        if not self._prefix or (path != twice and not path.startswith(f"{twice}/")):
            return dict(scope)
        rest = path[len(self._prefix) :]
        return {**scope, "path": rest if rest != self._prefix else f"{rest}/", "raw_path": rest.encode()}

    def _path(self, scope: Scope) -> str:
        """The path below --subpath."""
        path: str = scope["path"]
        return path[len(self._prefix) :] if self._prefix and path.startswith(f"{self._prefix}/") else path

    def _refusal_of_flood(self, scope: Scope) -> Response | None:
        limit = self._near if is_near(scope) else self._far
        return None if limit.allows(client_of(scope)) else too_many_requests()

    # Host, Origin, Sec-Fetch-Site: which page asks, and under which name

    def _refusal_of_origin(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = _host_name(host)
        if not self._is_own(name):
            way = f"start Easel with --allow-host {name[:100]}" if name else "send a Host header with its address"
            return refuse(421, f"this server does not answer for the host {host[:100]!r}; use its address, or {way}")
        origin = headers.get("origin", "").lower().rstrip("/")
        known = not origin or origin.partition("://")[2] == host.lower() or bool(self._origins & {origin, "*"})
        if not known and (scope["type"] == "websocket" or scope["method"] not in READING):
            return refuse(403, f"pages of {origin[:100]} may not use this server; allow them with --cors-allow-origins {origin[:100]}")
        if headers.get("sec-fetch-site") == "cross-site" and not (origin and known) and not _is_visit(scope, headers):
            return refuse(403, "another site's page may not use this server; allow it with --cors-allow-origins")
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

    # Passwords, sessions, roles

    async def _refusal_of_stranger(self, scope: Scope) -> Response | None:
        """None for those who may come in; guests among them are marked in the scope."""
        headers = Headers(scope=scope)
        path = self._path(scope)
        is_api = any(one == api or one.startswith(f"{api}/") for one in (path, scope["path"]) for api in API_PATHS)
        door = self._api if is_api else self._page
        preflight = scope.get("method") == "OPTIONS" and "access-control-request-method" in headers and bool(self._origins)
        if not door.locked or path in OPEN_PATHS or preflight:
            return None
        role = self._sessions.role(headers)
        given = basic_credentials(headers)
        if role == "owner" and door is not self._page:
            role = None  # the page's users are not those of the API
        if role is None and given is not None:
            found = await self._tried(scope, door, *given)
            if isinstance(found, Response):
                return found
            role = found
        if role is not None:
            scope[GUEST] = role == "guest"
            return None
        if is_api:
            return refuse(401, "user and password are needed: send them by HTTP Basic", {"WWW-Authenticate": 'Basic realm="Easel API"'})
        if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return self._login_page(self._target(scope))
        return refuse(401, "log in first: open this server's page, or send user and password by HTTP Basic")

    async def _tried(self, scope: Scope, door: Door, user: str, password: str) -> str | Response | None:
        """The role of those whom user and password let in; None where they are wrong; a refusal where there were too many wrong ones."""
        client = client_of(scope)
        if not self._wrong.too_many(client):
            for one, role in ((door, "owner"), (self._guests, "guest")):
                if one.remembers(user, password):
                    return role
        async with self._trying:
            if self._wrong.too_many(client):
                return too_many_passwords(self._wrong.wait(client))
            for one, role in ((door, "owner"), (self._guests, "guest")):
                if await one.opens(user, password):
                    return role
            self._wrong.note(client)
        return None

    def _refusal_of_guest(self, scope: Scope) -> Response | None:
        if not scope.get(GUEST) or may_ask(scope, self._path(scope)):
            return None
        return refuse(403, "guests may make pictures, but not look into or change what belongs to others; log in as the owner")

    async def _login(self, request: Request) -> Response:
        """GET shows the form, POST checks it and sets the cookie; /logout takes the cookie away."""
        scope = request.scope
        if self._path(scope) == "/logout":
            answer: Response = RedirectResponse(f"{self._prefix}/login", 303)
            answer.delete_cookie(self._sessions.cookie)
            return answer
        if request.method != "POST":
            return self._login_page(f"{self._prefix}/", status=200)
        form = await form_of(request)
        if form is None:
            return refuse(413, "the login form is too large")
        wants_page = "text/html" in request.headers.get("accept", "")
        target = _safe_target(form.get("next", ""), f"{self._prefix}/")
        role = await self._tried(scope, self._page, form.get("username", ""), form.get("password", ""))
        if isinstance(role, Response):
            return role
        if role is None:
            if wants_page:
                return self._login_page(target, "User or password is wrong.")
            return refuse(401, "user or password is wrong")
        answer = RedirectResponse(target, 303) if wants_page else JSONResponse({"success": True})
        self._sessions.start(answer, role, secure=scope["scheme"] == "https")
        return answer

    def _target(self, scope: Scope) -> str:
        """Path and query that were asked for, to go on with after the login."""
        query = scope.get("query_string", b"").decode("latin-1")
        return _safe_target(self._prefix + quote(self._path(scope)) + (f"?{query}" if query else ""), f"{self._prefix}/")

    def _login_page(self, target: str, message: str = "", status: int = 401) -> Response:
        return login_page(f"{self._prefix}/login", target, message, status)


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


def _own_names(settings: Settings) -> set[str]:
    """The names and addresses under which this machine is asked, in lower case."""
    names = {"localhost", "127.0.0.1", "::1", settings.host.lower(), *settings.allow_hosts} - {"0.0.0.0", "::", ""}
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


def _safe_target(text: str, otherwise: str) -> str:
    """`text` if it stays on this server, else `otherwise`."""
    safe = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if safe and len(text) < 2000 else otherwise


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
