"""The copy of a recipe that NovelAI hides in the lowest bits of a picture's transparency, where no site takes it away."""

import json
import zlib

from PIL import Image

from webui.core.containers import MAX_TEXT

PLAIN, PACKED = b"stealth_pnginfo", b"stealth_pngcomp"
GZIP = 31  # zlib's window bits for gzip
HEAD = 8 * len(PLAIN) + 32  # bits: the mark, then how many bits follow


def hidden_texts(image: Image.Image) -> dict[str, str]:
    """The hidden texts by name; those that are no JSON object as "parameters"; {} where there are none. Never raises for damaged ones.

    Bits lie one in each pixel, columns first.
    """
    if "A" not in image.getbands():
        return {}
    columns = image.getchannel("A").transpose(Image.Transpose.TRANSPOSE).tobytes()
    head = _bytes(columns[:HEAD])
    mark, bits = head[: len(PLAIN)], int.from_bytes(head[len(PLAIN) :], "big")
    if mark not in (PLAIN, PACKED) or not 0 < bits <= min(len(columns) - HEAD, 8 * MAX_TEXT):
        return {}
    content = _bytes(columns[HEAD : HEAD + bits // 8 * 8])
    if mark == PACKED:
        try:
            content = zlib.decompressobj(GZIP).decompress(content, MAX_TEXT)
        except zlib.error:
            return {}
    return _texts(content.decode("utf-8", "replace"))


def _bytes(values: bytes) -> bytes:
    """The lowest bits of `values`, eight of them a byte, the highest first."""
    digits = values.translate(bytes(48 + (value & 1) for value in range(256)))
    return int(digits or b"0", 2).to_bytes(len(values) // 8, "big")


def _texts(content: str) -> dict[str, str]:
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return {"parameters": content}
    if not isinstance(told, dict):
        return {"parameters": content}
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
