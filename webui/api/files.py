"""Files that users gave or that were made, sent so that no browser takes them for a page."""

from pathlib import Path

from fastapi.responses import FileResponse

from webui.core.errors import MissingModel

KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}


def file_answer(path: Path) -> FileResponse:
    """The file: PNG, JPEG and WebP as pictures, anything else as a download; what it is, its first bytes say. Raises MissingModel."""
    try:
        with path.open("rb") as file:
            kind = _kind(file.read(16))
    except OSError:
        raise MissingModel(f"the picture's file is not there any more: {path.name}") from None
    if kind:
        return FileResponse(path, headers=HEADERS, media_type=kind)
    return FileResponse(path, headers=HEADERS, media_type="application/octet-stream", filename=path.name)


def _kind(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in KINDS.items() if head.startswith(start)), "")
