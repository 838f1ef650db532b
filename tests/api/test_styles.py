"""webui/api/styles.py: the editor of styles."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.api.conftest import FACTORY
from webui.api.internal import internal_router
from webui.core.settings import Settings
from webui.service.service import open_service


@pytest.fixture
def page(settings: Settings, tmp_path: Path) -> Iterator[TestClient]:
    (tmp_path / "styles.csv").write_text('name,prompt,negative_prompt\nink,"ink, {prompt}",photo\n')
    service = open_service(replace(settings, data_dir=tmp_path, database=tmp_path / "easel.sqlite3"), FACTORY)
    app = FastAPI()
    app.include_router(internal_router(service))
    with TestClient(app) as client:
        yield client
    service.stop()


def test_styles_are_listed_with_their_files(page: TestClient) -> None:
    ink = {"name": "ink", "prompt": "ink, {prompt}", "negative_prompt": "photo", "file": "styles.csv"}
    assert page.get("/internal/styles").json() == {"styles": [ink], "files": ["styles.csv"]}


def test_a_style_is_made_renamed_and_removed(page: TestClient) -> None:
    assert page.post("/internal/styles", json={"name": "oil", "prompt": "a", "file": "styles/mine.csv"}).status_code == 200
    assert page.post("/internal/styles", json={"name": "wax", "prompt": "b", "was": "oil"}).status_code == 200
    assert [(each["name"], each["file"]) for each in page.get("/internal/styles").json()["styles"]][1] == ("wax", "styles/mine.csv")
    assert page.post("/internal/styles/remove", json={"name": "wax"}).status_code == 200
    assert len(page.get("/internal/styles").json()["styles"]) == 1


def test_what_is_wrong_is_told_in_a_sentence(page: TestClient) -> None:
    answer = page.post("/internal/styles", json={"name": " "})
    assert answer.status_code in (400, 422)
    assert "needs a name" in answer.json()["errors"]


def test_styles_are_put_into_prompts_by_their_slot(page: TestClient) -> None:
    asked = {"names": ["ink", "gone"], "prompt": "a cat", "negative_prompt": "green"}
    assert page.post("/internal/styles/applied", json=asked).json() == {"prompt": "ink, a cat", "negative_prompt": "green, photo"}
