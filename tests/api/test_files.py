"""Pictures are sent as pictures, all else as downloads, and nothing as a page."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient
from PIL import Image

from webui.api.files import file_answer
from webui.core.errors import MissingModel


def sent(path: Path):
    app = FastAPI()

    @app.get("/")
    def file() -> FileResponse:
        return file_answer(path)

    return TestClient(app).get("/")


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pictures_are_shown_whatever_their_name_says(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.html"
    Image.new("RGB", (4, 4)).save(path, kind)
    reply = sent(path)
    assert (reply.headers["content-type"], "content-disposition" in reply.headers) == (f"image/{kind}", False)
    assert (reply.headers["content-security-policy"], reply.headers["x-content-type-options"]) == ("sandbox; default-src 'none'", "nosniff")


@pytest.mark.parametrize(
    "content", [b"<!doctype html><script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a<html>", b""]
)
@pytest.mark.parametrize("name", ["x.html", "x.png", "x.svg", "x"])
def test_all_else_is_a_download(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    reply = sent(path)
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"].startswith("attachment")
    assert (reply.headers["content-security-policy"], reply.headers["x-content-type-options"]) == ("sandbox; default-src 'none'", "nosniff")


def test_a_file_that_is_gone_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingModel):
        file_answer(tmp_path / "gone.png")
