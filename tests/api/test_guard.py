"""The guard, around an app that answers everything it is let through to."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from webui.api import bodies, doors
from webui.api.guard import Guard
from webui.api.roles import is_guest
from webui.core import passwords
from webui.core.passwords import StoredPassword
from webui.core.settings import Settings, parse_flags

HOST = "127.0.0.1:7860"
SOCKET = f"ws://{HOST}/internal/ws"
ALL = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]


async def answer(request: Request) -> Response:
    return JSONResponse({"path": request.url.path, "size": len(await request.body()), "guest": is_guest(request)})


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


APP = Starlette(routes=[WebSocketRoute("/internal/ws{rest:path}", talk), Route("/{path:path}", answer, methods=ALL)])


def settings(*flags: str) -> Settings:
    return parse_flags(flags, {})


def client(*flags: str, host: str = HOST, address: str = "127.0.0.1") -> TestClient:
    return TestClient(Guard(APP, settings(*flags)), base_url=f"http://{host}", client=(address, 1), follow_redirects=False)


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.fixture(autouse=True)
def cheap_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of passwords that cost nothing; tests/core/test_passwords.py looks at the true ones."""
    monkeypatch.setattr(passwords, "COST", 2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(doors.time, "monotonic", lambda: now[0])
    return now


# hosts


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "127.0.0.1", "127.1.2.3:1"])
def test_loopback_names_pass(host: str) -> None:
    assert client().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "localhost.evil.example", "192.168.1.5:7860", "", "user@localhost", "[::1"]
)
def test_other_hosts_are_refused_with_a_sentence(host: str) -> None:
    reply = client().get("/sdapi/v1/progress", headers={"Host": host})
    assert reply.status_code == 421
    assert "does not answer for the host" in reply.json()["detail"]


def test_a_listening_server_answers_for_addresses_but_not_for_rebound_names() -> None:
    open_to_all = client("--listen", "--insecure")
    assert open_to_all.get("/", headers={"Host": "192.168.1.5:7860"}).status_code == 200
    assert open_to_all.get("/", headers={"Host": "[fe80::1]:7860"}).status_code == 200
    assert open_to_all.get("/", headers={"Host": "evil.example:7860"}).status_code == 421


def test_the_share_host_passes_once_it_is_known() -> None:
    guarded = Guard(APP, settings("--share", "--insecure"))
    http = TestClient(guarded, base_url="http://abc.gradio.live")
    assert http.get("/").status_code == 421
    guarded.allow_host("https://abc.gradio.live")
    assert http.get("/").status_code == 200


def test_the_host_of_an_allowed_origin_passes() -> None:
    assert client("--cors-allow-origins", "https://easel.example.org").get("/", headers={"Host": "easel.example.org"}).status_code == 200


def test_named_hosts_pass() -> None:
    http = client("--allow-host", "Easel.Example.org,other")
    for host in ("easel.example.org", "easel.example.org:443", "other:7860"):
        assert http.get("/", headers={"Host": host}).status_code == 200
        assert http.post("/", headers={"Host": host, "Origin": f"https://{host}"}).status_code == 200
    assert http.get("/", headers={"Host": "evil.example"}).status_code == 421


# origins


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:7861", "http://localhost:7860", "garbage", "http://[", "x\xff"]
)
def test_posts_of_other_origins_are_refused(origin: str) -> None:
    assert client().post("/sdapi/v1/interrupt", headers={"Origin": origin.encode("latin-1")}).status_code == 403


def test_posts_of_the_own_page_and_of_programs_pass() -> None:
    assert client().post("/x", headers={"Origin": "http://127.0.0.1:7860"}).status_code == 200
    assert client().post("/x", headers={"Origin": "HTTP://127.0.0.1:7860"}).status_code == 200
    assert client().post("/x").status_code == 200


def test_an_allowed_origin_may_post_and_read_the_answer() -> None:
    http = client("--cors-allow-origins", "https://tool.example,https://other.example")
    headers = {"Origin": "https://tool.example", "Sec-Fetch-Site": "cross-site"}
    reply = http.post("/sdapi/v1/txt2img", headers=headers)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == "https://tool.example"
    assert http.post("/x", headers={"Origin": "https://third.example"}).status_code == 403


def test_a_preflight_of_an_allowed_origin_needs_no_password() -> None:
    http = client("--cors-allow-origins", "https://tool.example", "--gradio-auth", "a:b")
    headers = {"Origin": "https://tool.example", "Access-Control-Request-Method": "POST"}
    assert http.options("/sdapi/v1/txt2img", headers=headers).status_code == 200
    assert http.options("/sdapi/v1/txt2img").status_code == 401


def test_other_sites_may_link_here_but_not_embed() -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    visit = {**cross, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client().get("/", headers=visit).status_code == 200
    assert client().get("/", headers={**visit, "Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert (
        client().get("/internal/pictures/1", headers={**cross, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}).status_code == 403
    )
    assert client().post("/x", headers=visit).status_code == 403


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}])
def test_websockets_of_other_pages_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(WebSocketDisconnect), client().websocket_connect(SOCKET, headers=headers):
        pass


def test_websockets_of_the_own_page_and_of_programs_open() -> None:
    for headers in ({}, {"Origin": f"http://{HOST}"}):
        with client().websocket_connect(SOCKET, headers=headers) as socket:
            assert socket.receive_text() == "hello"


# passwords


def test_without_passwords_any_authorization_header_is_ignored() -> None:
    for value in ("", "Basic", "Basic !!!", "Bearer x", "Basic Og=="):
        assert client().get("/sdapi/v1/progress", headers={"Authorization": value}).status_code == 200


@pytest.mark.parametrize("path", ["/sdapi/v1/progress", "/sdapi/v1/png-info", "/sdapi"])
@pytest.mark.parametrize("flag", ["--api-auth", "--gradio-auth"])
def test_the_api_asks_for_basic(path: str, flag: str) -> None:
    http = client(flag, "ann:pä:ss,bob:x")
    refused = http.get(path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert refused.json()["detail"]
    for wrong in ("ann:", "ann:pä", "bob:pä:ss", ":", "ann", "x:bob"):
        assert http.get(path, headers=basic(wrong)).status_code == 401
    for right in ("ann:pä:ss", "bob:x"):
        assert http.get(path, headers=basic(right)).status_code == 200


@pytest.mark.parametrize("value", ["Basic", "Basic !!!", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Bearer eA==", ""])
def test_broken_authorization_is_a_401(value: str) -> None:
    assert client("--api-auth", "a:b").get("/sdapi/v1/options", headers={"Authorization": value}).status_code == 401


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/events", "/api", "/sdapi/v1/options"])
def test_api_auth_covers_every_api(path: str) -> None:
    http = client("--api-auth", "a:b")
    assert http.get(path).status_code == 401
    assert http.get(path, headers=basic("a:b")).status_code == 200


def test_what_an_app_says_of_sharing_by_itself_is_left_out() -> None:
    async def shared(request: Request) -> Response:
        return Response("x", headers={"Access-Control-Allow-Origin": "http://localhost:3000", "Access-Control-Allow-Credentials": "true"})

    app = Starlette(routes=[Route("/", shared)])
    headers = TestClient(Guard(app, settings()), base_url=f"http://{HOST}").get("/", headers={"Origin": "http://localhost:3000"}).headers
    assert not [name for name in headers if name.startswith("access-control-")]


def test_api_auth_alone_leaves_the_page_open() -> None:
    assert client("--api-auth", "a:b").get("/").status_code == 200


def test_with_both_flags_the_api_takes_only_its_own_users() -> None:
    http = client("--api-auth", "a:api", "--gradio-auth", "a:page")
    assert http.get("/sdapi/v1/options", headers=basic("a:page")).status_code == 401
    assert http.get("/sdapi/v1/options", headers=basic("a:api")).status_code == 200
    assert http.get("/", headers=basic("a:api")).status_code == 401
    http.post("/login", data={"username": "a", "password": "page"})
    assert http.get("/").status_code == 200
    assert http.get("/sdapi/v1/options").status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/internal/pictures/1", "/gradio_api/file=x", "/docs", "/openapi.json", "/loginx", "//sdapi", "/config"]
)
def test_a_page_with_a_password_shows_nothing_to_strangers(path: str) -> None:
    http = client("--gradio-auth", "a:b")
    assert http.get(path).status_code == 401
    assert http.post(path).status_code == 401
    assert http.get(path, headers=basic("a:b")).status_code == 200


def test_browsers_get_a_login_page_and_go_on_where_they_wanted_to() -> None:
    http = client("--gradio-auth", "ann:secret")
    http.headers["Accept"] = "text/html"
    page = http.get("/?tab=img2img&x=%22%3E")
    assert page.status_code == 401
    assert "www-authenticate" not in page.headers
    assert 'value="/?tab=img2img&amp;x=%22%3E"' in page.text
    wrong = http.post("/login", data={"username": "ann", "password": "x", "next": "/?tab=img2img"})
    assert wrong.status_code == 401
    assert "wrong" in wrong.text
    right = http.post("/login", data={"username": "ann", "password": "secret", "next": "/?tab=img2img"})
    assert (right.status_code, right.headers["location"]) == (303, "/?tab=img2img")
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secret" not in cookie
    assert http.get("/").json() == {"path": "/", "size": 0, "guest": False}
    assert http.get("/sdapi/v1/options").status_code == 200
    with http.websocket_connect(SOCKET) as socket:
        assert socket.receive_text() == "hello"
    http.get("/logout")
    assert http.get("/").status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:x",
        "/\n/evil",
        "",
        "\ud800".encode("utf-8", "replace").decode(),
    ],
)
def test_login_never_leads_away(target: str) -> None:
    http = client("--gradio-auth", "a:b")
    reply = http.post("/login", data={"username": "a", "password": "b", "next": target}, headers={"Accept": "text/html"})
    assert reply.headers["location"] == "/"


def test_gradio_clients_log_in_by_form() -> None:
    http = client("--gradio-auth", "a:b")
    assert http.post("/login", data={"username": "a", "password": "wrong"}).status_code == 401
    assert http.post("/login", data={"username": "a", "password": "b"}).json() == {"success": True}
    assert http.get("/config").status_code == 200


def test_login_from_another_origin_is_refused() -> None:
    data = {"username": "a", "password": "b"}
    assert client("--gradio-auth", "a:b").post("/login", data=data, headers={"Origin": "http://evil.example"}).status_code == 403


def test_forged_cookies_open_nothing() -> None:
    http = client("--gradio-auth", "a:b")
    http.post("/login", data={"username": "a", "password": "b"})
    ((name, value),) = http.cookies.items()
    end, role, signature = value.split(".")
    assert role == "owner"
    http.cookies.clear()
    for forged in (
        *(f"{int(end) + 1}.{role}.{signature}", f"{end}.{role}.", f"{end}.{role}.{'0' * 64}", "", ".", "x.y", f"²{end}.{role}.{signature}"),
        *(f"{end}.guest.{signature}", f"{end}.{signature}", f"{end}.owner.owner.{signature}"),
    ):
        assert http.get("/", headers={"Cookie": f"{name}={forged}".encode()}).status_code == 401
    assert http.get("/", headers={"Cookie": f"other=1; {name}={value}"}).status_code == 200


def test_sessions_end(monkeypatch: pytest.MonkeyPatch) -> None:
    http = client("--gradio-auth", "a:b")
    http.post("/login", data={"username": "a", "password": "b"})
    ((name, value),) = http.cookies.items()
    now = doors.time.monotonic()
    monkeypatch.setattr(doors.time, "monotonic", lambda: now + doors.SESSION_SECONDS + 5)
    assert http.get("/", headers={"Cookie": f"{name}={value}"}).status_code == 401


def test_cookies_are_secure_over_https() -> None:
    http = TestClient(Guard(APP, settings("--gradio-auth", "a:b")), base_url=f"https://{HOST}")
    assert "secure" in http.post("/login", data={"username": "a", "password": "b"}).headers["set-cookie"].lower()


def test_websockets_need_the_password() -> None:
    http = client("--gradio-auth", "a:b")
    with pytest.raises(WebSocketDisconnect), http.websocket_connect(SOCKET):
        pass
    with http.websocket_connect(SOCKET, headers=basic("a:b")) as socket:
        assert socket.receive_text() == "hello"


def test_wrong_passwords_are_limited_and_the_right_one_works_again_within_a_minute(clock: list[float]) -> None:
    http = client("--gradio-auth", "a:b")
    tries = [http.get("/sdapi/v1/options", headers=basic(f"a:{i}")).status_code for i in range(30)]
    assert tries == [401] * 20 + [429] * 10
    blocked = http.get("/sdapi/v1/options", headers=basic("a:b"))
    assert blocked.status_code == 429  # not even looked at: otherwise guessing could go on
    assert 1 <= int(blocked.headers["retry-after"]) <= 60
    assert http.post("/login", data={"username": "a", "password": "b"}).status_code == 429
    clock[0] += 60
    assert http.get("/sdapi/v1/options", headers=basic("a:b")).status_code == 200


def test_wrong_passwords_of_one_client_do_not_lock_out_another_nor_those_who_are_in(clock: list[float]) -> None:
    guarded = Guard(APP, settings("--gradio-auth", "a:b"))
    attacker, user = (TestClient(guarded, base_url=f"http://{HOST}", client=(address, 1)) for address in ("10.0.0.1", "10.0.0.2"))
    inside = TestClient(guarded, base_url=f"http://{HOST}", client=("10.0.0.1", 2))
    inside.post("/login", data={"username": "a", "password": "b"})
    for i in range(25):
        attacker.post("/login", data={"username": "a", "password": str(i)})
    assert attacker.get("/", headers=basic("a:b")).status_code == 429
    assert user.get("/", headers=basic("a:b")).status_code == 200
    assert inside.get("/").status_code == 200


def test_all_addresses_of_an_ipv6_network_count_as_one_client(clock: list[float]) -> None:
    guarded = Guard(APP, settings("--gradio-auth", "a:b"))
    for i in range(20):
        TestClient(guarded, base_url=f"http://{HOST}", client=(f"2001:db8::{i:x}", 1)).get("/", headers=basic("a:x"))
    one_more, other = (TestClient(guarded, base_url=f"http://{HOST}", client=(a, 1)) for a in ("2001:db8::ffff", "2001:db8:0:1::1"))
    assert one_more.get("/", headers=basic("a:b")).status_code == 429
    assert other.get("/", headers=basic("a:b")).status_code == 200


def test_requests_without_a_password_are_not_counted_as_wrong() -> None:
    http = client("--gradio-auth", "a:b")
    for _ in range(30):
        http.get("/")
    assert http.get("/", headers=basic("a:b")).status_code == 200


def test_health_checks_need_no_password() -> None:
    assert client("--gradio-auth", "a:b").get("/internal/ping").status_code == 200


def test_a_subpath_is_guarded_like_the_root() -> None:
    http = client("--subpath", "/easel/", "--gradio-auth", "a:b", "--api-auth", "x:y")
    for path in ("/easel/sdapi/v1/options", "/sdapi/v1/options"):
        assert "www-authenticate" in http.get(path).headers
        assert http.get(path, headers=basic("x:y")).status_code == 200
    page = http.get("/easel/?a=1", headers={"Accept": "text/html"})
    assert 'action="/easel/login"' in page.text
    assert 'value="/easel/?a=1"' in page.text
    reply = http.post("/easel/login", data={"username": "a", "password": "b", "next": "/easel/?a=1"}, headers={"Accept": "text/html"})
    assert reply.headers["location"] == "/easel/?a=1"
    assert http.get("/easel/").status_code == 200


def test_below_a_subpath_a_prefix_that_uvicorn_doubles_counts_once() -> None:
    http = client("--subpath", "easel")
    paths = ("/easel/config", "/easel/easel/config", "/easel/easel", "/easel/easel/", "/easel/easels")
    assert [http.get(path).json()["path"] for path in paths] == ["/easel/config", "/easel/config", "/easel/", "/easel/", "/easel/easels"]


def test_passwords_are_not_kept_readable() -> None:
    guarded = Guard(APP, settings("--gradio-auth", "ann:a-very-long-password"))
    http = TestClient(guarded, base_url=f"http://{HOST}")
    assert http.get("/", headers=basic("ann:a-very-long-password")).status_code == 200
    assert "a-very-long-password" not in repr({**vars(guarded), **vars(guarded._page)})


def test_a_password_costs_its_slow_sum_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    fits = StoredPassword.fits
    monkeypatch.setattr(StoredPassword, "fits", lambda self, word: tried.append(word) or fits(self, word))
    http = client("--gradio-auth", "a:b")
    assert [http.get("/", headers=basic("a:b")).status_code for _ in range(5)] == [200] * 5
    assert tried == ["b"]
    assert [http.get("/", headers=basic(text)).status_code for text in ("a:x", "nobody:b")] == [401] * 2
    assert tried == ["b", "x", "b"]  # a user who is not there costs as much


def test_passwords_that_come_at_once_are_all_counted() -> None:
    async def flood() -> list[int]:
        transport = httpx.ASGITransport(Guard(APP, settings("--gradio-auth", "a:b")))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as http:
            replies = await asyncio.gather(*(http.get("/", headers=basic(f"a:{i}")) for i in range(40)))
        return sorted(reply.status_code for reply in replies)

    assert asyncio.run(flood()) == [401] * 20 + [429] * 20


# guests


GUESTS = ("--gradio-auth", "ann:b", "--guest-auth", "visitor:c")
ALLOWED = [
    *("GET /", "GET /config", "GET /assets/x.js", "POST /gradio_api/queue/join", "GET /sdapi/v1/options", "GET /sdapi/v1/sd-models"),
    *("GET /sdapi/v1/progress", "POST /sdapi/v1/txt2img", "POST /sdapi/v1/img2img", "POST /sdapi/v1/png-info"),
    *("GET /internal/pictures/5", "GET /internal/jobs/abc/preview.jpg", "POST /internal/jobs/abc/interrupt", "POST /internal/inputs"),
    *(
        "GET /internal/models",
        "GET /internal/models/lora/a/b.safetensors/thumbnail",
        "POST /internal/progress",
        "GET /queue/status",
        "GET /internal/gallery/5/thumbnail",
    ),
    *("POST /sdapi/v1/txt2img/", "GET /sdapi/v1/options//", "POST /internal/jobs/abc/interrupt/"),
]
REFUSED = [
    *("POST /sdapi/v1/options", "POST /sdapi/v1/interrupt", "POST /sdapi/v1/skip", "POST /sdapi/v1/unload-checkpoint"),
    *("POST /sdapi/v1/reload-checkpoint", "POST /sdapi/v1/refresh-checkpoints", "POST /sdapi/v1/server-stop", "GET /sdapi/v1/cmd-flags"),
    *("POST /sdapi/v1/create/embedding", "POST /sdapi/v1/train/embedding", "GET /internal/sysinfo", "GET /sdapi/v1/../v1/cmd-flags"),
    *("POST /internal/models/merge", "POST /internal/models/save", "POST /internal/models/lora/a/sidecar", "POST /internal/models/refresh"),
    *(
        "POST /internal/models/lora/a/thumbnail",
        "POST /internal/gallery/look-again",
        "DELETE /internal/pictures/5",
        "GET /api/v1/jobs",
        "POST /mcp",
    ),
    *("POST /", "PUT /internal/inputs", "GET /internal/whatever"),
    *("POST /sdapi/v1/options/", "GET /sdapi/v1/cmd-flags/", "GET /internal/sysinfo//", "GET /api/v1/jobs/", "GET /sdapi/", "GET /api//"),
]


@pytest.mark.parametrize("words", ALLOWED)
def test_guests_may_make_pictures(words: str) -> None:
    method, path = words.split()
    reply = client(*GUESTS).request(method, path, headers=basic("visitor:c"))
    assert (reply.status_code, reply.json()["guest"]) == (200, True)


@pytest.mark.parametrize("words", REFUSED)
def test_guests_may_not_change_or_look_into_anything_else(words: str) -> None:
    method, path = words.split()
    http = client(*GUESTS)
    reply = http.request(method, path, headers=basic("visitor:c"))
    assert reply.status_code == 403
    assert "guests" in reply.json()["detail"]
    assert http.request(method, path, headers=basic("ann:b")).json()["guest"] is False


def test_guests_log_in_by_the_form_and_stay_guests() -> None:
    http = client(*GUESTS)
    assert http.post("/login", data={"username": "visitor", "password": "c"}).status_code == 200
    assert http.get("/").json()["guest"] is True
    assert http.post("/sdapi/v1/options").status_code == 403
    with http.websocket_connect(SOCKET + "/me-myself") as socket:
        assert socket.receive_text() == "hello"


def test_guests_below_a_subpath_are_guests_too() -> None:
    http = client(*GUESTS, "--subpath", "easel")
    for path in ("/easel/internal/sysinfo", "/internal/sysinfo", "/easel/easel/internal/sysinfo"):
        assert http.get(path, headers=basic("visitor:c")).status_code == 403
    assert http.get("/easel/internal/pictures/1", headers=basic("visitor:c")).status_code == 200


def test_guests_use_the_api_also_where_it_has_users_of_its_own() -> None:
    http = client(*GUESTS, "--api-auth", "bob:d")
    assert http.post("/sdapi/v1/txt2img", headers=basic("visitor:c")).json()["guest"] is True
    assert http.post("/sdapi/v1/txt2img", headers=basic("bob:d")).json()["guest"] is False
    assert http.post("/sdapi/v1/txt2img", headers=basic("ann:b")).status_code == 401


# floods


def test_a_client_that_asks_too_often_is_told_so_and_others_are_not(clock: list[float]) -> None:
    guarded = Guard(APP, settings("--rate-limit", "5"))
    busy, other = (TestClient(guarded, base_url=f"http://{HOST}", client=(address, 1)) for address in ("10.0.0.1", "10.0.0.2"))
    assert [busy.get("/").status_code for _ in range(52)] == [200] * 50 + [429] * 2
    assert int(busy.get("/").headers["retry-after"]) >= 1
    assert other.get("/").status_code == 200
    clock[0] += 1
    assert [busy.get("/").status_code for _ in range(6)] == [200] * 5 + [429]


@pytest.mark.parametrize(
    ("address", "near"), [("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("fe80::1%eth0", False), ("x", False)]
)
def test_this_machine_itself_may_ask_ten_times_as_often(clock: list[float], address: str, near: bool) -> None:
    http = client("--rate-limit", "1", address=address)
    assert [http.get("/").status_code for _ in range(101)].count(200) == (100 if near else 10)


def test_without_a_limit_there_is_none(clock: list[float]) -> None:
    limit = doors.RateLimit(0)
    assert all(limit.allows("a") for _ in range(10_000))


def test_what_is_remembered_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "MAX_CLIENTS", 3)
    limit, wrong = doors.RateLimit(1), doors.WrongPasswords()
    for i in range(9):
        limit.allows(str(i))
        wrong.note(str(i))
    assert (list(limit._left), list(wrong._times)) == (["6", "7", "8"], ["6", "7", "8"])


# kinds of bodies


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "TEXT/PLAIN;charset=utf-8"]
)
def test_forms_of_web_pages_are_not_taken_for_json(kind: str) -> None:
    http = client()
    for path in ("/sdapi/v1/txt2img", "/sdapi/v1/options", "/api/v1/jobs"):
        reply = http.post(path, content=b"{}", headers={"Content-Type": kind})
        assert reply.status_code == 415
        assert "application/json" in reply.json()["detail"]
    assert http.post("/sdapi/v1/interrupt", content=b"{}", headers={"Content-Type": kind}).status_code == 200
    assert http.post("/sdapi/v1/txt2img", headers={"Content-Type": kind}).status_code == 200  # no body at all
    assert http.post("/internal/inputs", content=b"x", headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/vnd.api+json", ""])
def test_json_and_bodies_without_a_kind_pass(kind: str) -> None:
    assert client().post("/sdapi/v1/txt2img", content=b"{}", headers={"Content-Type": kind} if kind else {}).status_code == 200


# sizes and the rest


def test_bodies_that_say_they_are_too_large_are_refused_unread() -> None:
    for length in (str(bodies.MAX_BODY + 1), "9" * 30):
        assert client().post("/x", headers={"Content-Length": length}).status_code == 413
    for length in ("-1", "x", "²"):
        assert client().post("/x", headers={"Content-Length": length.encode()}).status_code == 400


def test_bodies_without_a_length_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY", 1000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(APP, settings()))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as http:
            return await http.post("/x", content=endless())

    assert asyncio.run(post()).status_code == 413
    assert client().post("/x", content=b"x" * 1000).json()["size"] == 1000


def test_login_forms_are_small() -> None:
    assert client("--gradio-auth", "a:b").post("/login", content=b"x" * 100_000).status_code == 413


def test_every_answer_tells_its_time_and_forbids_sniffing() -> None:
    for path, headers in (("/", {}), ("/", {"Host": "evil.example"})):
        reply = client().get(path, headers=headers)
        assert float(reply.headers["x-process-time"]) >= 0
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_lifespan_reaches_the_app() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(Guard(app, settings())({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
