"""Tools by which an assistant draws: a Model Context Protocol server on stdin and stdout, over a running Easel's /api/v1.

mcp_http.py offers the same tools in the running Easel itself.

    python -m webui.api.mcp [--url http://127.0.0.1:7860]

User and password, where Easel wants them, come from the variable EASEL_AUTH ("user:password"). Needs the package `mcp`.
"""

import argparse
import base64
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import anyio
from anyio.to_thread import run_sync
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

PAUSE = 0.4  # seconds between two looks at a job
PATIENCE = 60.0  # seconds for one answer of Easel's
ENDED = ("done", "failed", "interrupted")
INSTRUCTIONS = (
    "Easel draws pictures with Stable Diffusion. Prompts are short descriptions. Every picture has an id: img2img takes it as the picture"
    " to start from. The same seed and settings make the same picture; seed -1 draws one."
)
Content = list[str | Image]


Fetch = Callable[[str, str, bytes | None, str], Awaitable[tuple[int, bytes]]]  # method, path below /api/v1, body, its kind -> status, body


class Easel:
    """A running Easel, by its own API."""

    def __init__(self, fetch: Fetch, reads_files: bool):
        """reads_files: whether tools may name pictures by their paths here."""
        self._fetch = fetch
        self.reads_files = reads_files

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON that a route answers. Raises ToolError with Easel's sentence."""
        data = json.dumps(body).encode() if body is not None else None
        return json.loads(await self._answer(method, path, data, "application/json"))

    async def file(self, picture: int) -> bytes:
        """The bytes of a finished picture."""
        return await self._answer("GET", f"/pictures/{picture}/file", None, "")

    async def send(self, path: str, data: bytes) -> Any:
        """POST a picture file."""
        mark = secrets.token_hex(16)
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="picture"\r\nContent-Type: image/png\r\n\r\n'
        body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
        return json.loads(await self._answer("POST", path, body, f"multipart/form-data; boundary={mark}"))

    async def _answer(self, method: str, path: str, data: bytes | None, kind: str) -> bytes:
        status, body = await self._fetch(method, path, data, kind)
        if status >= 400:
            raise ToolError(_sentence(body) or f"Easel answered with status {status}")
        return body


def by_address(url: str, auth: str) -> Fetch:
    """Ask the Easel at `url`; auth: "user:password", "" for none."""
    base = f"{url.rstrip('/')}/api/v1"
    login = {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"} if auth else {}

    def ask(method: str, path: str, data: bytes | None, kind: str) -> tuple[int, bytes]:
        headers = {**login, **({"Content-Type": kind} if data is not None else {})}
        try:
            with urlopen(Request(base + path, data, headers, method=method), timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()
        except (URLError, TimeoutError, ConnectionError) as error:
            raise ToolError(f"no Easel answers at {base} ({error}); start it, or name its address with --url") from None

    return lambda *asked: run_sync(ask, *asked)


def _sentence(body: bytes) -> str:
    try:
        return str(json.loads(body)["errors"])
    except (ValueError, KeyError, TypeError):
        return ""


def make_server(easel: Easel) -> MCPServer:
    """The tools over one Easel."""
    server = MCPServer("easel", instructions=INSTRUCTIONS)

    @server.tool(structured_output=False)
    async def txt2img(
        context: Context,
        prompt: str,
        negative_prompt: str = "",
        width: int = 0,
        height: int = 0,
        steps: int = 20,
        cfg_scale: float = 7.0,
        seed: int = -1,
        count: int = 1,
        checkpoint: str = "",
    ) -> Content:
        """Draw pictures from a prompt. Width and height in pixels, multiples of 8; 0: what the checkpoint was trained on."""
        request = {"kind": "txt2img", "prompt": prompt, "negative_prompt": negative_prompt, "width": width, "height": height}
        request |= {"steps": steps, "cfg_scale": cfg_scale, "seed": seed, "batch_count": count, "checkpoint": checkpoint}
        return await _draw(easel, context, request)

    @server.tool(structured_output=False)
    async def img2img(
        context: Context,
        prompt: str,
        picture: int | None = None,
        file: str = "",
        data: str = "",
        denoising_strength: float = 0.75,
        negative_prompt: str = "",
        steps: int = 20,
        cfg_scale: float = 7.0,
        seed: int = -1,
    ) -> Content:
        """Redraw a picture by a prompt. Name one: `picture`, the id of a finished one; `file`, a path here; `data`, base64.

        denoising_strength: 0 keeps the picture, 1 repaints it wholly.
        """
        kept = await easel.send("/inputs", await _bytes_of(easel, picture, file, data))
        request = {"kind": "img2img", "prompt": prompt, "negative_prompt": negative_prompt, "steps": steps, "cfg_scale": cfg_scale}
        request |= {"seed": seed, "init": {"image": kept["input"], "denoising_strength": denoising_strength}}
        return await _draw(easel, context, request)

    @server.tool(structured_output=False)
    async def png_info(picture: int | None = None, file: str = "", data: str = "") -> str:
        """How a picture was made, as its file says it. Name one: `picture`, a finished one's id; `file`, a path here; `data`, base64."""
        told = await easel.send("/png-info", await _bytes_of(easel, picture, file, data))
        return str(told["text"]) or "This picture says nothing of how it was made."

    return server


async def _bytes_of(easel: Easel, picture: int | None, file: str, data: str) -> bytes:
    """The picture that was named in one of three ways. Raises ToolError."""
    if (picture is not None) + bool(file) + bool(data) != 1:
        raise ToolError("name one picture: by picture, file or data")
    if file and not easel.reads_files:
        raise ToolError("files are read where the tools run by stdio alone; send the picture as data")
    if picture is not None:
        return await easel.file(picture)
    try:
        return await run_sync(Path(file).read_bytes) if file else base64.b64decode(data.partition(",")[2] or data, validate=True)
    except OSError as error:
        raise ToolError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ToolError("data is not base64") from None


async def _draw(easel: Easel, context: Context, request: Mapping[str, Any]) -> Content:
    """Queue, wait, and bring the pictures, each after what it is. When the assistant gives up, the job is stopped."""
    job = await easel.ask("POST", "/jobs", {"request": request})
    path = f"/jobs/{quote(job['id'], safe='')}"
    try:
        while job["status"] not in ENDED:
            await context.report_progress(job["fraction"], 1.0, job["text"])
            await anyio.sleep(PAUSE)
            job = await easel.ask("GET", path)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await easel.ask("DELETE", path)
        raise
    if job["status"] != "done":
        raise ToolError(job["error"] or "the job was interrupted")
    content: Content = []
    for picture in job["pictures"]:
        told = await easel.ask("GET", f"/pictures/{picture['id']}")
        content += [f"Picture {picture['id']}\n{told['infotext']}", _image(await easel.file(picture["id"]))]
    return content


def _image(data: bytes) -> Image:
    kind = "png" if data[:4] == b"\x89PNG" else "webp" if data[8:12] == b"WEBP" else "jpeg"
    return Image(data=data, format=kind)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m webui.api.mcp", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="where Easel answers")
    make_server(Easel(by_address(parser.parse_args().url, os.environ.get("EASEL_AUTH", "")), reads_files=True)).run("stdio")


if __name__ == "__main__":
    main()
