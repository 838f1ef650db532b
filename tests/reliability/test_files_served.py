"""Rows 13-15 of docs/reliability.md: nothing outside the gallery is served, nothing is served as a page, nothing is written elsewhere,
nothing is fetched."""

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.api.conftest import png
from tests.reliability.live import SMALL, Live

SECRET = "the-secret-of-another-folder"
PLACES = (
    "/file=", "/file/", "/gradio_api/file=", "/gradio_api/file/", "/gradio_api/proxy=", "/internal/pictures/", "/internal/inputs/",
    "/internal/models/lora/", "/internal/jobs/", "/static/", "/assets/", "/svelte/", "/", "/sdapi/v1/", "/gradio_api/custom_component/",
)  # fmt: skip


@pytest.fixture(scope="module")
def secret(light: Live) -> Path:
    """A file beside the data folder, and links to it from within."""
    path = light.data_dir.parent / "secret.txt"
    path.write_text(SECRET)
    for folder in ("outputs", "tmp", "loras", "inputs"):
        (light.data_dir / folder).mkdir(exist_ok=True)
        (light.data_dir / folder / "link.png").symlink_to(path)
    (light.data_dir / "loras" / "leak.preview.png").symlink_to(path)
    (light.data_dir / "styles.csv").write_text(f"name,prompt\n{SECRET}-of-styles,x\n")
    return path


def spellings(path: str) -> list[str]:
    dots = "../" * 12 + path.lstrip("/")
    return [
        path, f"/{path}", dots, dots.replace("/", "%2f"), dots.replace(".", "%2e"), dots.replace("../", "..%252f"),
        dots.replace("../", "....//"), dots.replace("/", "\\"), dots.replace("../", "..;/"), f"file://{path}", f"{path}%00.png",
        path.replace("/", "%2f"), f"./{path}", f"~{path}",
    ]  # fmt: skip


def test_nothing_outside_the_gallery_is_served(light: Live, secret: Path) -> None:
    hidden = (str(secret), "/etc/passwd", str(light.data_dir / "easel.sqlite3"), str(light.data_dir / "outputs" / "link.png"))
    urls = [place + spelling for path in hidden for place in PLACES for spelling in spellings(path)]
    urls += ["/gradio_api/file=" + str(light.data_dir / "styles.csv"), "/gradio_api/file=app.py", "/gradio_api/file=/proc/self/environ"]
    assert len(urls) >= 180
    with light.http() as http:
        for url in urls:
            answer = http.get(httpx.URL(light.url).copy_with(raw_path=url.encode()))
            leaked = [mark for mark in (SECRET, "root:x:0", "SQLite format 3", "PATH=", "def main") if mark in answer.text]
            assert not leaked, (url, answer.status_code)
            assert answer.status_code < 500, url


ACTIVE = {
    "page.html": b"<script>alert(1)</script>",
    "page.xhtml": b'<html xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></html>',
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "page.xml": b"<?xml version='1.0'?><a/>",
    "script.js": b"alert(1)",
    "page.pdf": b"%PDF-1.4",
    "page.html.png": base64.b64decode(png()) + b"<script>alert(1)</script>",
}


@pytest.mark.parametrize("name", ACTIVE)
def test_nothing_uploaded_is_served_as_a_page(light: Live, name: str) -> None:
    with light.http() as http:
        given = http.post("/gradio_api/upload", files={"files": (name, ACTIVE[name], "text/html")})
        kept = http.post("/internal/inputs", files={"file": (name, ACTIVE[name], "text/html")})
        urls = [f"/gradio_api/file={path}" for path in given.json()] if given.status_code == 200 else []
        urls += [f"/internal/inputs/{kept.json()['input']}"] if kept.status_code == 201 else []
        assert urls
        for url in urls:
            answer = http.get(url)
            kind, kept_off = answer.headers["content-type"], answer.headers.get("content-disposition", "")
            assert kind.startswith(("image/png", "text/plain", "application/octet-stream")) or kept_off.startswith("attachment"), url
            assert "svg" not in kind or kept_off.startswith("attachment")
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_pictures_are_pictures_and_run_nothing(light: Live) -> None:
    light.draw(prompt="<script>alert(1)</script>")
    with light.http() as http:
        addresses = {"/internal/pictures/1": "png", "/api/v1/pictures/1/file": "png", "/internal/gallery/1/thumbnail": "webp"}
        for address, kind in addresses.items():
            answer = http.get(address)
            assert answer.headers["content-type"] == f"image/{kind}"
            assert "sandbox" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"


# writing

WRITTEN = ("outputs/", "inputs/", "tmp/", "models/Stable-diffusion/", "easel.sqlite3", "cache/")
AWAY = ("../../evil", "/tmp/easel-evil", "..\\..\\evil", "%2e%2e%2fevil", "a/../../../evil", "evil\0.png", "C:\\evil", "~/evil", "x" * 300)


def files_below(folder: Path) -> set[str]:
    return {os.path.relpath(os.path.join(here, name), folder) for here, _, names in os.walk(folder) for name in names}


@contextmanager
def nothing_written_elsewhere(light: Live) -> Iterator[None]:
    before = files_below(light.data_dir.parent)
    yield
    new = files_below(light.data_dir.parent) - before
    assert [name for name in new if not name.startswith(tuple(f"data/{place}" for place in WRITTEN))] == []
    assert not list(Path("/tmp").glob("*evil*"))


def test_no_option_names_a_folder(light: Live) -> None:
    options = (
        "outdir_samples",
        "outdir_txt2img_samples",
        "outdir_save",
        "samples_filename_pattern",
        "directories_filename_pattern",
        "temp_dir",
    )
    with nothing_written_elsewhere(light), light.http() as http:
        for name in options:
            http.post("/sdapi/v1/options", json={name: "/tmp/easel-evil"})
            assert light.draw(override_settings={name: "../../evil"}).status_code in (200, 422)
        told = http.get("/sdapi/v1/options").json()
        assert [name for name in options if "evil" in str(told.get(name))] == []


@pytest.mark.parametrize("text", AWAY)
def test_no_text_of_a_request_names_a_file(light: Live, text: str) -> None:
    fields = ({"prompt": text}, {"styles": [text]}, {"sampler_name": text}, {"override_settings": {"sd_model_checkpoint": text}})
    fields += ({"save_images": True, "prompt": f"[{text}]", "negative_prompt": text}, {"force_task_id": text})
    with nothing_written_elsewhere(light):
        for each in fields:
            assert light.draw(**each).status_code < 500


@pytest.mark.parametrize("text", AWAY)
def test_no_name_of_an_upload_or_a_model_leads_elsewhere(light: Live, text: str) -> None:
    order = {"name": text, "checkpoint": "small", "vae": "None"}
    with nothing_written_elsewhere(light), light.http() as http:
        told = [
            http.post("/gradio_api/upload", files={"files": (text, b"evil")}).status_code,
            http.post("/internal/inputs", files={"file": (text, base64.b64decode(png()))}).status_code,
            http.post("/internal/models/save", json={"order": order}).status_code,
            http.post("/internal/models/merge", json={"recipe": {"name": text, "a": "small", "b": "small"}}).status_code,
            http.post(f"/internal/models/lora/{quote(text[:99])}/sidecar", json={"notes": "x"}).status_code,
        ]
        time.sleep(0.3)
    assert max(told) < 500


# fetching


class Canary(ThreadingHTTPServer):
    """A server on this machine that must never be asked."""

    def __init__(self) -> None:
        self.hits: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                canary.hits.append(self.path)
                self.send_response(200)
                self.end_headers()

            do_POST = do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        canary = self
        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def canary() -> Iterator[Canary]:
    with Canary() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def addresses(port: int) -> list[str]:
    hosts = (
        "127.0.0.1", "localhost", "LOCALHOST", "127.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "[::1]",
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "user@127.0.0.1", "evil.example@127.0.0.1", "127.0.0.1#@evil.example", "①②⑦.0.0.1",
    )  # fmt: skip
    urls = [f"http://{host}:{port}/x.png" for host in hosts]
    return [
        *urls,
        f"HTTP://127.0.0.1:{port}/",
        f"//127.0.0.1:{port}/",
        f"http:127.0.0.1:{port}/",
        f"ftp://127.0.0.1:{port}/",
        f"http:\\\\127.0.0.1:{port}\\",
    ]


def test_nothing_is_fetched(light: Live, canary: Canary) -> None:
    port = canary.server_address[1]
    told = []
    with light.http() as http:
        assert httpx.get(f"http://127.0.0.1:{port}/control").status_code == 200  # it hears
        for url in addresses(port):
            told += [
                http.post("/sdapi/v1/img2img", json=SMALL | {"init_images": [url]}).status_code,
                http.post("/sdapi/v1/img2img", json=SMALL | {"init_images": [png()], "mask": url}).status_code,
                http.post("/sdapi/v1/png-info", json={"image": url}).status_code,
                http.get(f"/gradio_api/file={quote(url)}").status_code,
                http.get(f"/gradio_api/proxy={quote(url)}").status_code,
            ]
            for route in ("queue/join", "run/predict"):
                data = {"data": [{"path": url, "url": url, "meta": {"_type": "gradio.FileData"}}] * 3, "fn_index": 0, "session_hash": "1"}
                told.append(http.post(f"/gradio_api/{route}", json=data).status_code)
    assert len(told) >= 70
    assert canary.hits == ["/control"]
    assert json.dumps(told).count("[5") == 0
