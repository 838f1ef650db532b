"""What the API's routes answer where nothing else does."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from webui.api.envelope import EnvelopeRoute, TrailingSlash, WrongMethod


@pytest.fixture
def http() -> TestClient:
    """Routes of ours, and a page behind them that answers everything, as Gradio's does."""
    app = FastAPI()
    app.router.route_class = EnvelopeRoute

    @app.get("/options")
    def read() -> dict[str, str]:
        return {}

    @app.post("/options")
    def write() -> dict[str, str]:
        return {}

    @app.post("/jobs/{job_id}/skip")
    def skip(job_id: str) -> dict[str, str]:
        return {}

    app.router.routes += [WrongMethod(app.routes), TrailingSlash(app.routes)]
    app.mount("/", PlainTextResponse("the page"))
    return TestClient(app)


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("DELETE", "/options", "GET, POST"), ("GET", "/jobs/x/skip", "POST"), ("PUT", "/jobs/x/skip", "POST")]
)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(http: TestClient, method: str, path: str, allowed: str) -> None:
    reply = http.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)
    assert allowed in reply.json()["detail"]


def test_right_methods_and_the_page_answer_as_without_it(http: TestClient) -> None:
    assert (http.get("/options").json(), http.post("/options").json()) == ({}, {})
    assert (http.get("/").text, http.post("/queue/join").text) == ("the page", "the page")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/options/", "/options"),
        ("/options//", "/options"),
        ("/options/?a=b%20c&a=%C3%A9", "/options?a=b%20c&a=%C3%A9"),
        ("/jobs/%C3%A9%0d%0aX:%20y/skip/", "/jobs/%C3%A9%0D%0AX%3A%20y/skip"),
        ("/jobs/%5c%5cevil.example/skip/", "/jobs/%5C%5Cevil.example/skip"),
    ],
)
def test_a_slash_at_the_end_leads_to_the_path_without_it_on_this_server(http: TestClient, method: str, path: str, target: str) -> None:
    reply = http.request(method, path, follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (307, target)


@pytest.mark.parametrize("path", ["/", "//evil.example/", "//options/", "/nothing/", "/options/x/"])
def test_other_paths_with_a_slash_at_the_end_are_the_pages(http: TestClient, path: str) -> None:
    reply = http.get(f"http://testserver{path}", follow_redirects=False)
    assert (reply.status_code, reply.text) == (200, "the page")
