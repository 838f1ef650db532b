"""What the API's routes answer where nothing else does."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from webui.api.envelope import EnvelopeRoute, WrongMethod


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

    app.router.routes.append(WrongMethod(app.routes))
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
