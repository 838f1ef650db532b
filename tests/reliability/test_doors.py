"""Rows 17-22 of docs/reliability.md: who may ask, from where, with which password; on every route, Gradio's included."""

import json
import re
import time

import httpx
import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.reliability.light import ROUTES
from tests.reliability.live import OWNER, PATIENCE, SMALL, Live

OPEN_TO_ALL = ("/internal/ping", "/login", "/login/", "/logout")
EVIL = "http://evil.example"
READING = ("GET", "HEAD")


def routes(live: Live) -> list[tuple[str, str]]:
    """Every (method, path) of the server, places in paths filled in."""
    told = json.loads((live.data_dir / ROUTES).read_text())
    return [(method, re.sub(r"\{[^}]*\}", "1", path)) for method, path in told]


def ask(http: httpx.Client, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """Without reading a body, which some routes would send for ever."""
    body = json.dumps(SMALL) if method == "POST" else None
    with http.stream(method, path, headers={"Content-Type": "application/json"} | headers, content=body) as answer:
        return answer


def of_pages(live: Live) -> list[tuple[str, str]]:
    return [(method, path) for method, path in routes(live) if method != "WS"]


def test_the_server_has_the_routes_that_are_asked_here(light: Live) -> None:
    assert len(routes(light)) >= 118
    assert {("POST", "/sdapi/v1/txt2img"), ("POST", "/gradio_api/upload"), ("WS", "/internal/ws/1")} <= set(routes(light))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:{port}"])
def test_a_foreign_host_is_refused_on_every_route(light: Live, host: str) -> None:
    named = host.format(port=light.port)
    with light.http() as http:
        told = {(method, path): ask(http, method, path, {"Host": named}).status_code for method, path in of_pages(light)}
    assert {route: status for route, status in told.items() if not 400 <= status < 500} == {}


FOREIGN = ({"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": EVIL})


@pytest.mark.parametrize("headers", FOREIGN)
def test_no_route_that_changes_something_takes_a_foreign_page(light: Live, headers: dict[str, str]) -> None:
    with light.http() as http:
        told = {path: ask(http, method, path, headers).status_code for method, path in of_pages(light) if method not in READING}
    assert len(told) >= 30
    assert {path: status for path, status in told.items() if status != 403} == {}


@pytest.mark.parametrize("headers", [*FOREIGN, {"Origin": "http://localhost:3000"}, {"Origin": "http://127.0.0.1:9"}])
def test_no_answer_may_be_read_by_a_foreign_page(light: Live, headers: dict[str, str]) -> None:
    with light.http() as http:
        for method, path in of_pages(light):
            answer = ask(http, method, path, headers)
            assert "access-control-allow-origin" not in answer.headers, path
            assert "access-control-allow-credentials" not in answer.headers, path


def test_a_page_elsewhere_cannot_post_what_needs_no_preflight(light: Live) -> None:
    """A form of another site, whose browser sends no Origin at all (old ones do not), must not start a job by its content alone."""
    kinds = ("text/plain", "application/x-www-form-urlencoded")
    with light.http(headers={"Sec-Fetch-Site": "cross-site"}) as http:
        told = [http.post("/sdapi/v1/txt2img", content=json.dumps(SMALL), headers={"Content-Type": kind}).status_code for kind in kinds]
    assert told == [403, 403]


def test_the_own_page_and_programs_are_let_in(light: Live) -> None:
    """The control: were everything refused, the tests above would prove nothing."""
    for headers in ({}, {"Origin": light.url}, {"Origin": light.url, "Sec-Fetch-Site": "same-origin"}):
        assert httpx.post(f"{light.url}/sdapi/v1/txt2img", json=SMALL, headers=headers, timeout=60).status_code == 200


def test_clients_that_write_a_slash_at_the_end_are_served(light: Live) -> None:
    """As A1111 serves them: by a 307, after which method and body come again; also where the body is large and sent in pieces."""
    with light.http(follow_redirects=True) as http:
        assert len(http.post("/sdapi/v1/txt2img/", json=SMALL).json()["images"]) == 1
        assert http.get("/api/v1/jobs/?limit=1").json()["jobs"][0]["status"] == "done"
        assert http.get("/internal/ping/").json() == {}
        assert http.get("/nothing/").status_code == 404
    large = {**SMALL, "styles": ["x" * 20_000_000]}
    answer = requests.post(f"{light.url}/sdapi/v1/txt2img//", json=large, timeout=PATIENCE)
    assert ([each.status_code for each in answer.history], answer.status_code) == ([307], 422)
    answer = requests.post(f"{light.url}/sdapi/v1/txt2img/", json=SMALL, timeout=PATIENCE)
    assert (answer.status_code, len(answer.json()["images"])) == (200, 1)


def test_a_slash_at_the_end_opens_no_door(locked: Live) -> None:
    """The password is asked for first, and what is told is a path of this server, whatever name the client asked for."""
    with locked.http() as http:
        for method, path in of_pages(locked):
            if path not in OPEN_TO_ALL and not path.endswith("/"):
                assert ask(http, method, path + "/", {}).status_code == 401, path
        assert http.get("/sdapi/v1/options/", auth=OWNER).headers["location"] == "/sdapi/v1/options"
        for path in ("//evil.example/", "//evil.example/sdapi/v1/options/", "/sdapi/v1/%2F%2Fevil.example/", "/\\evil.example/"):
            url = httpx.URL(locked.url).copy_with(raw_path=path.encode())
            assert "evil" not in http.get(url, auth=OWNER).headers.get("location", ""), path


def test_reading_changes_nothing(light: Live) -> None:
    """No job, preference or file comes of a GET, whatever its query says."""
    with light.http() as http:
        before = http.get("/sdapi/v1/options").json(), sorted(light.data_dir.rglob("*.png"))
        for path in ("/sdapi/v1/txt2img", "/sdapi/v1/options", "/sdapi/v1/interrupt", "/internal/models/refresh", "/internal/replay"):
            assert http.get(f"{path}?prompt=x&CLIP_stop_at_last_layers=5").status_code in (200, 405)
        assert (http.get("/sdapi/v1/options").json(), sorted(light.data_dir.rglob("*.png"))) == before


def test_no_route_answers_without_the_password(locked: Live) -> None:
    with locked.http() as http:
        told = {(method, path): ask(http, method, path, {}).status_code for method, path in of_pages(locked) if path not in OPEN_TO_ALL}
    assert len(told) >= 118
    assert {route: status for route, status in told.items() if status != 401} == {}


def test_no_spelling_of_a_path_goes_round_the_password(locked: Live) -> None:
    spellings = ("/SDAPI/v1/options", "//sdapi/v1/options", "/sdapi/v1/options/", "/x/../sdapi/v1/options", "/%73dapi/v1/options")
    spellings += (
        "/internal/ping/../../sdapi/v1/options",
        "/internal/ping/",
        "/internal/ping;/x",
        "/login/../config",
        "/internal/ping%2f..%2fx",
    )
    with locked.http() as http:
        for path in spellings:
            url = httpx.URL(locked.url).copy_with(raw_path=path.encode())
            answer = http.get(url)
            assert answer.status_code in (401, 404, 405), (path, answer.status_code)
            assert "samples_format" not in answer.text


def test_no_websocket_opens_without_the_password(locked: Live) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{locked.port}/internal/ws/somebody1")


def test_with_the_password_the_routes_answer(locked: Live) -> None:
    with locked.http(auth=OWNER) as http:
        assert http.get("/sdapi/v1/options").status_code == 200
        assert http.get("/config").status_code == 200
        assert http.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200


def test_no_secret_is_in_any_answer_log_or_file(locked: Live) -> None:
    secret = OWNER[1]
    with locked.http(auth=OWNER) as http:
        http.post("/sdapi/v1/txt2img", json=SMALL)
        http.get("/sdapi/v1/options", auth=("ann", "not-" + secret))
        for method, path in of_pages(locked):
            if method == "GET" and not any(endless in path for endless in ("heartbeat", "queue/data", "/events")):
                assert secret not in http.get(path).text, path
    for file in (locked.log, *(path for path in locked.data_dir.rglob("*") if path.is_file())):
        assert secret.encode() not in file.read_bytes(), file


def test_guessing_is_slowed_and_the_right_password_works_again(locked: Live) -> None:
    """The last test of this server: its address stays blocked for a minute. tests/api/test_guard.py has the end of that minute."""
    with locked.http() as http:
        inside = locked.http()
        inside.post("/login", data={"username": OWNER[0], "password": OWNER[1]})
        begin = time.monotonic()
        told = [http.get("/config", auth=("ann", str(i))).status_code for i in range(40)]
        minutes = 1 + int(time.monotonic() - begin) // 60  # a machine that is busy takes more than one
        assert told.count(401) <= 20 * minutes
        assert told.count(401) + told.count(429) == 40
        assert inside.get("/config").status_code == 200  # who is in stays in
        inside.close()
