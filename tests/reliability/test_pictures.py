"""Row 8 of docs/reliability.md: broken and bombing pictures are refused in a sentence, cheaply."""

import base64
import io
import struct
import zlib

import pytest
from PIL import Image

from tests.reliability.live import SMALL, Live

PNG = b"\x89PNG\r\n\x1a\n"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA", "ICO")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"", more: bytes = b"", depth: int = 8, colours: int = 2) -> bytes:
    """A PNG that says of itself what one likes."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    return PNG + head + more + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def sound(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((40, 40), 50).convert("RGB").save(stream, kind)
    return stream.getvalue()


def broken() -> dict[str, bytes]:
    made = {
        "empty": b"",
        "a web page": b"<html>",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "PDF": b"%PDF-1.4\n",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/x) (w) file\n",
        "PNG head alone": PNG,
        "PNG of 2^31": png(2**31 - 1, 2**31 - 1),
        "PNG of 60000 x 60000": png(60_000, 60_000, bytes(10**6)),
        "PNG of 0 x 0": png(0, 0),
        "PNG, 1 high, very wide": png(2**30, 1, bytes(10**6)),
        "PNG of 8000 x 8000 in a kilobyte": png(8000, 8000, bytes(8000 * 8001), depth=1, colours=0),
        "PNG, too little in it": png(1000, 1000, b"\0"),
        "PNG, noise in it": PNG
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"noise")
        + chunk(b"IEND", b""),
        "PNG, odd depth": png(9, 9, bytes(400), depth=7),
        "PNG, odd colours": png(9, 9, bytes(400), colours=5),
        "PNG, palette missing": png(9, 9, bytes(400), colours=3),
        "PNG, bomb of a text": png(9, 9, bytes(300), chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(50_000_000), 9))),
        "PNG, bomb of a profile": png(9, 9, bytes(300), chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(50_000_000), 9))),
        "PNG, 100,000 chunks": png(9, 9, bytes(300), chunk(b"tEXt", b"a\0b") * 100_000),
        "PNG, endless chunk": PNG + struct.pack(">I", 2**31 - 1) + b"IHDR",
        "GIF of 65535 x 65535": b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;",
        "GIF without end": b"GIF89a" + bytes(50),
        "BMP of 2^31": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
        "TIFF in circles": b"II*\0\x08\0\0\0\x01\0\0\x01\x04\0\x01\0\0\0\x09\0\0\0\x08\0\0\0",
        "PPM of 10^9": b"P6 1000000000 1000000000 255\n",
        "ICO in circles": b"\0\0\1\0\1\0" + bytes(8) + struct.pack("<II", 100, 6),
        "JPEG head alone": b"\xff\xd8\xff\xe0",
        "JPEG of 65535 x 65535": b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xda",
        "noise": bytes(range(256)) * 100,
    }
    for kind in FORMATS:
        data = sound(kind)
        made |= {f"{kind}, half": data[: len(data) // 2], f"{kind}, no end": data[:-1], f"{kind}, one byte": data[:1]}
        made[f"{kind}, a hole"] = data[: len(data) // 3] + bytes(len(data) // 3) + data[len(data) // 3 * 2 :]
    return made


BROKEN = broken()


def test_there_are_as_many_as_were_promised() -> None:
    assert len(BROKEN) >= 65


@pytest.mark.parametrize("route", ["png-info", "img2img", "mask"])
def test_no_broken_picture_is_a_server_error(light: Live, route: str) -> None:
    small = base64.b64encode(sound("PNG")).decode()
    before = light.memory()
    with light.http() as http:
        for name, data in BROKEN.items():
            text = base64.b64encode(data).decode()
            body = {
                "png-info": {"image": text},
                "img2img": SMALL | {"init_images": [text]},
                "mask": SMALL | {"init_images": [small], "mask": text},
            }[route]
            answer = http.post(f"/sdapi/v1/{'png-info' if route == 'png-info' else 'img2img'}", json=body)
            assert answer.status_code < 500, (name, answer.text[:300])
            assert answer.status_code == 200 or answer.json()["detail"], name
    assert light.memory() - before < 2**30


def test_the_pages_own_routes_refuse_them_too(light: Live) -> None:
    with light.http() as http:
        for name, data in BROKEN.items():
            for route in ("png-info", "inputs"):
                assert http.post(f"/internal/{route}", files={"file": ("x.png", data)}).status_code in (200, 201, 422), name
