"""The real server, started as a user starts it, and Debian's Chromium with a person's hands on it."""

import base64
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from safetensors.numpy import save_file

from tests.service.conftest import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app.py"
PATIENCE = 90.0  # seconds until a test gives up on something; never a measure of speed
START_PATIENCE = 120.0  # seconds for the server to answer
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@dataclass(frozen=True)
class Server:
    address: str
    data_dir: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("browser")
    write_checkpoint(folder / "data" / "models" / "Stable-diffusion" / "zz-large.safetensors", 768)  # looks like SD 1.x, cannot be loaded
    write_lora(folder / "data" / "loras" / "ink.safetensors")
    port = free_port()
    with serving(folder, port):
        yield Server(f"http://127.0.0.1:{port}/", folder / "data")


def write_lora(path: Path) -> None:
    """A small LoRA for the miniature that changes one layer by nothing much."""
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    generator = np.random.default_rng(0)
    down, up = (generator.normal(0, 0.01, shape).astype(np.float32) for shape in ((2, 128), (160, 2)))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}, path, {"ss_output_name": "ink"})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(folder: Path, port: int, *flags: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Easel as its user starts it, with `folder`/data as its data folder, ready to answer; ended with the block."""
    log = folder / "server.log"
    command = [sys.executable, str(APP), "--port", str(port), "--data-dir", str(folder / "data"), *flags]
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=os.environ | {"COMMANDLINE_ARGS": ""})
    try:
        _wait_for(f"http://127.0.0.1:{port}/internal/ping", process, log)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the server did not start:\n{log.read_text('utf-8', 'replace')[-3000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "the browser tests need Debian's chromium: apt install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


class Person:
    """What a person does on the page, and what they would complain about (`complaints`)."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context = context
        self.address = address
        self.complaints: list[str] = []
        self.page = self.visit()

    def visit(self) -> Page:
        """A new browser tab on the page, ready to use."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: self._note_message(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("request", lambda request: self._note_request(request.url))
        page.goto(self.address)
        self.ready(page)
        return page

    def ready(self, page: Page) -> None:
        page.wait_for_selector("html[data-easel=ready]", state="attached")

    def _note_message(self, kind: str, text: str) -> None:
        refused = "responded with a status of 4" in text  # what the browser says of bad input that the server refuses
        if kind == "error" and not refused:
            self.complaints.append(f"console: {text}")

    def _note_request(self, url: str) -> None:
        if not url.startswith(("data:", "blob:", self.address)):
            self.complaints.append(f"request to {urlparse(url).hostname}")

    def open(self, tab: str) -> None:
        self.page.click(f"#open_{tab}")

    def write(self, element: str, text: object) -> None:
        """Type into the field with this elem_id and leave it."""
        field = self.page.locator(f"#{element} :is(textarea, input:not([type=range]))").first
        field.fill(str(text))
        field.press("Tab")

    def value(self, element: str) -> str:
        return self.page.locator(f"#{element} :is(textarea, input:not([type=range]))").first.input_value()

    def choose(self, element: str, name: str) -> None:
        """Open a list and take an option whose text begins so. The list may just be redrawn with new files: then it is tried again."""
        box = self.page.locator(f"#{element} input")
        for _ in range(20):
            box.click()
            option = self.page.locator(f"#{element} [role=option]", has_text=name)
            if option.count():
                option.first.dispatch_event("mousedown")
            box.blur()
            self.page.wait_for_timeout(300)
            if box.input_value().startswith(name):
                return
        raise AssertionError(f"{name} cannot be chosen")

    def wait_for_value(self, element: str, value: object) -> None:
        self.page.wait_for_function(
            "([id, value]) => document.querySelector(`#${id} :is(textarea, input:not([type=range]))`).value === value",
            arg=[element, str(value)],
        )

    def status(self, tab: str) -> str:
        """How the latest job of the tab stands, as the page knows it."""
        return str(self.page.evaluate("tab => Array.from(easel.results[tab].jobs.values()).at(-1)?.status ?? ''", tab))

    def generate(self, tab: str) -> None:
        """Press Generate and wait until the page knows of the job."""
        jobs = self.page.evaluate("tab => easel.results[tab].jobs.size", tab)
        self.page.click(f"#{tab}_generate")
        self.page.wait_for_function("([tab, jobs]) => easel.results[tab].jobs.size > jobs", arg=[tab, jobs])

    def wait_for_end(self, tab: str) -> None:
        self.page.wait_for_selector(f"html:not(.busy-{tab})", state="attached")

    def make_picture(self, tab: str) -> Image.Image:
        """Generate, wait, and look at the picture that is then on the stage."""
        self.generate(tab)
        self.wait_for_end(tab)
        assert self.status(tab) == "done", self.page.locator(f"#{tab}_results .error").inner_text()
        return opened(self.picture_file(tab))

    def picture_file(self, tab: str) -> bytes:
        """The bytes of the file that is shown on the stage."""
        source = self.page.locator(f"#{tab}_results .view").get_attribute("src")
        assert source
        return self.page.request.get(source).body()

    def drop(self, selector: str, data: bytes, name: str, kind: str = "image/png") -> None:
        """Drop a file from the desktop on an element."""
        self.page.evaluate(
            """([selector, data, name, type]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([Uint8Array.from(atob(data), (each) => each.charCodeAt(0))], name, { type }));
                const target = document.querySelector(selector);
                for (const event of ["dragenter", "dragover", "drop"]) {
                    target.dispatchEvent(new DragEvent(event, { dataTransfer: transfer, bubbles: true, cancelable: true }));
                }
            }""",
            [selector, base64.b64encode(data).decode(), name, kind],
        )

    def wait_for_toast(self, text: str) -> None:
        self.page.locator("#easel_toasts .note", has_text=text).first.wait_for()


@pytest.fixture
def person(server: Server, browser: Browser) -> Iterator[Person]:
    """Somebody with a fresh browser profile; in the end the console must be clean and nothing foreign was asked for."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-US", color_scheme="light")
    somebody = Person(context, server.address)
    yield somebody
    context.close()
    assert somebody.complaints == []


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.fixture
def wide_png() -> bytes:
    """A picture of 800 x 400 without any text."""
    buffer = io.BytesIO()
    Image.new("RGB", (800, 400), "teal").save(buffer, "PNG")
    return buffer.getvalue()
