"""webui/api/page_paths.py: what the page does not use is not there."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from webui.api.page_paths import ClosedDoors


@pytest.fixture
def http() -> TestClient:
    """A page that answers everything, behind the doors."""
    app = FastAPI(docs_url=None, redoc_url=None)
    app.router.routes.append(ClosedDoors())
    app.router.routes.append(Mount("/", app=PlainTextResponse("the page")))
    return TestClient(app)


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index.js", "/gradio_api/queue/join", "/gradio_api/heartbeat/1"])
def test_what_the_page_uses_is_left_to_it(http: TestClient, path: str) -> None:
    assert http.get(path).text == "the page"


@pytest.mark.parametrize("path", ["/sdapi/v1/nothing", "/controlnet/model_list", "/gradio_api/component_server", "/proxy=http://x"])
def test_all_else_is_missing_in_the_words_of_a1111(http: TestClient, path: str) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.json()["detail"]) == (404, "Not Found")
    assert answer.json()["errors"] == f"there is no {path} here"
