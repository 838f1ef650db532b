"""Where picture files keep texts: PNG chunks and EXIF. Written for strangers' files: whatever is damaged is left out, nothing raises."""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from typing import Literal

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 4_000_000  # bytes of one text, unpacked
MAX_TEXTS = 1_000
LATIN_CONTROLS = bytes(range(0x80, 0xA0))
USER_COMMENT = 0x9286
EXIF_POINTER = 0x8769
ASCII = frozenset((9, 10, 13, *range(32, 127)))  # the printable ones, and those that part lines
PROOF = 8  # characters by which the other byte order must make more of a text than the block's own
DESCRIPTION = 0x010E
EXIF_TEXTS = {DESCRIPTION: "ImageDescription", 0x010F: "Make", 0x0110: "Model", 0x0131: "Software", 0x013B: "Artist"}
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}  # EXIF types that matter: byte, ASCII, short, long, undefined


def png_texts(data: bytes) -> tuple[dict[str, str], bytes]:
    """The texts of a PNG's tEXt, zTXt and iTXt chunks by keyword, the first of a name winning, and the content of its eXIf chunk.

    Unpacking stops at MAX_TEXT bytes for each text and eight times that for all.
    """
    texts: dict[str, str] = {}
    exif = b""
    budget = 8 * MAX_TEXT
    for kind, body in _png_chunks(data):
        if kind == b"eXIf":
            exif = exif or body
        elif kind in TEXT_CHUNKS and len(texts) < MAX_TEXTS and budget > 0:
            found = TEXT_CHUNKS[kind](body)
            if found is not None:
                texts.setdefault(*found)
                budget -= len(found[1])
    return texts, exif


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each chunk but pixel data; check sums are not looked at, a cut-off chunk gives what there is."""
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        if kind != b"IDAT":
            yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _plain_chunk(body: bytes) -> tuple[str, str] | None:
    keyword, zero, value = body.partition(b"\0")
    return (keyword.decode("latin-1"), _latin_1_or_utf_8(value[:MAX_TEXT])) if zero else None


def _packed_chunk(body: bytes) -> tuple[str, str] | None:
    keyword, zero, rest = body.partition(b"\0")
    value = _unpacked(rest[1:])  # rest[0] is the method, always 0
    return (keyword.decode("latin-1"), _latin_1_or_utf_8(value)) if zero and value is not None else None


def _international_chunk(body: bytes) -> tuple[str, str] | None:
    keyword, zero, rest = body.partition(b"\0")
    parts = rest[2:].split(b"\0", 2)  # language, translated keyword, text
    if not zero or len(parts) < 3:
        return None
    value = _unpacked(parts[2]) if rest[0] == 1 else parts[2][:MAX_TEXT]
    return (keyword.decode("latin-1"), value.decode("utf-8", "replace")) if value is not None else None


TEXT_CHUNKS = {b"tEXt": _plain_chunk, b"zTXt": _packed_chunk, b"iTXt": _international_chunk}


def _unpacked(value: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(value, MAX_TEXT)
    except zlib.error:
        return None


def _latin_1_or_utf_8(value: bytes) -> str:
    """tEXt is Latin-1, but some programs write UTF-8: that is believed where Latin-1 would give control characters."""
    if len(value.translate(None, LATIN_CONTROLS)) < len(value):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode("utf-8")
    return value.decode("latin-1")


def exif_texts(exif: bytes) -> tuple[dict[str, str], str]:
    """The texts of an EXIF block's main directory by name, and its UserComment ("" if none)."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "")
    if not order or len(exif) < 8:
        return {}, ""
    main = _directory(exif, int.from_bytes(exif[4:8], _byteorder(order)), order)
    texts = {name: _text_tag(main[tag]) for tag, name in EXIF_TEXTS.items() if tag in main}
    pointer = int.from_bytes(main.get(EXIF_POINTER, b"\0")[:4], _byteorder(order))
    below = _directory(exif, pointer, order) if pointer else {}
    comment = below.get(USER_COMMENT) or main.get(USER_COMMENT) or b""
    return texts, decode_user_comment(comment, order)


def _byteorder(order: str) -> Literal["little", "big"]:
    return "little" if order == "<" else "big"


def _directory(exif: bytes, at: int, order: str) -> dict[int, bytes]:
    """tag -> raw value of the EXIF directory at `at`: a count, then entries of 12 bytes (tag, type, count, value or its place)."""
    values: dict[int, bytes] = {}
    count = int.from_bytes(exif[at : at + 2], _byteorder(order))
    for entry in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", exif, entry)
        length = TYPE_BYTES.get(kind, 0) * number
        place = entry + 8
        if length > 4:
            (place,) = struct.unpack_from(order + "I", exif, place)
        if 0 < length <= MAX_TEXT and place + length <= len(exif) and tag not in values and len(values) < 100:
            values[tag] = exif[place : place + length]
    return values


def _text_tag(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def decode_user_comment(value: bytes, order: str = ">") -> str:
    """A UserComment's text: 8 bytes of character code, then the text; UTF-16 of either byte order, ASCII, JIS, or UTF-8 with no code."""
    code, rest = value[:8], value[8:]
    if code == b"UNICODE\0":
        text = rest.decode(_utf_16(rest, order), "replace")
    elif code == b"JIS\0\0\0\0\0":
        text = rest.decode("iso2022_jp", "replace")
    elif code in (b"ASCII\0\0\0", bytes(8)):
        text = rest.decode("utf-8", "replace")
    else:
        text = value.decode("utf-8", "replace")
    return text.rstrip("\0")


def _utf_16(value: bytes, order: str) -> str:
    """Which UTF-16 it is: by its mark, else by the EXIF block's byte order, unless the other one makes plainly more ASCII of it.

    Many programs write big-endian text into little-endian blocks. But a few characters prove nothing: N one way round is 一 the other.
    """
    if value[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    pairs = list(zip(value[0::2], value[1::2], strict=False))
    big = sum(high == 0 and low in ASCII for high, low in pairs)
    little = sum(high == 0 and low in ASCII for low, high in pairs)
    if order == "<":
        return "utf-16-be" if big >= little + PROOF else "utf-16-le"
    return "utf-16-le" if little >= big + PROOF else "utf-16-be"


def make_exif(comment: str, description: str = "") -> bytes:
    """An EXIF block: `comment` as its UserComment, in the form that A1111 writes (big-endian UTF-16), and an ASCII ImageDescription."""
    value = b"UNICODE\0" + comment.encode("utf-16-be", "replace")
    text = description.encode("ascii", "replace") + b"\0" if description else b""
    count = 2 if text else 1
    below = 8 + 2 + 12 * count + 4  # where the second directory begins
    head = struct.pack(">HHII", DESCRIPTION, 2, len(text), below + 18 + len(value)) if text else b""
    main = struct.pack(">H", count) + head + struct.pack(">HHIII", EXIF_POINTER, 4, 1, below, 0)
    comments = struct.pack(">HHHIII", 1, USER_COMMENT, 7, len(value), below + 18, 0)
    return b"Exif\0\0MM\0*" + (8).to_bytes(4, "big") + main + comments + value + text
