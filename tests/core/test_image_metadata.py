"""Pictures in and out of files: texts survive, strangers' files are read or refused with a sentence."""

import contextlib
import io
import json
import random
import struct
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.core.foreign.test_stealth import hiding
from webui.core.containers import PNG_SIGNATURE, make_exif
from webui.core.errors import BadRequest
from webui.core.image_metadata import FORMATS, MAX_PIXELS, encode, open_image, read_infotext, save_png
from webui.core.request import GenerationRequest

INFOTEXT = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, Version: v1.10.1"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def picture(mode="RGB", size=(8, 8)):
    return Image.new(mode, size, 3)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of one white pixel with these (type, content) chunks before its pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)), *chunks, (b"IDAT", zlib.compress(b"\0\xff\xff\xff")), (b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def with_exif(format: str, exif: bytes) -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, format, exif=exif)
    return buffer.getvalue()


def user_comment(raw: bytes, order: str = ">") -> bytes:
    """An EXIF block in byte order `order` with the UserComment `raw`."""
    main = struct.pack(order + "HHHIII", 1, 0x8769, 4, 1, 26, 0)
    below = struct.pack(order + "HHHIII", 1, 0x9286, 7, len(raw), 44, 0)
    return b"Exif\0\0" + (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8) + main + below + raw


@settings(max_examples=100, deadline=None)
@given(TEXTS.filter(bool), st.sampled_from(["png", "jpg", "webp"]))
@example("Ā", "jpg")
@example("一", "webp")
@example("一只猫", "jpg")
def test_an_infotext_survives_every_format(text, format):
    text = text if format == "png" else text.rstrip("\0")
    assert read_infotext(encode(picture(), text, format)).text == text


@settings(max_examples=50, deadline=None)
@given(TEXTS.filter(lambda text: "\0" not in text))
def test_pillow_finds_our_text_where_everybody_looks(text):
    image = Image.open(io.BytesIO(encode(picture(), text, "png")))
    assert image.info.get("parameters", "") == text
    image = Image.open(io.BytesIO(encode(picture(), text, "jpg")))
    comment = image.getexif().get_ifd(0x8769).get(0x9286, b"UNICODE\0")
    assert comment == b"UNICODE\0" + text.encode("utf-16-be")


# Latin-1's control characters are left out: nobody writes them, and text that is really UTF-8 is told by them.
@settings(max_examples=100, deadline=None)
@given(
    TEXTS.map(lambda text: "".join(char for char in text if not "\x80" <= char <= "\x9f")).filter(lambda text: "\0" not in text and text),
    st.booleans(),
)
def test_texts_that_pillow_wrote_are_read(text, packed):
    chunks = PngInfo()
    chunks.add_text("parameters", text, zip=packed)
    chunks.add_text("postprocessing", "Upscale: 2")
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", pnginfo=chunks)
    found = read_infotext(buffer.getvalue())
    assert found.text == text
    assert found.items == {"postprocessing": "Upscale: 2"}


def test_the_recipe_gives_the_request_back(tmp_path):
    request = GenerationRequest(prompt="é\r\n\udc80 Negative prompt:", width=64, height=64, seed=5, variation_seed=2, cfg_scale=0.1)
    save_png(picture(), tmp_path / "a.png", "x", request.to_json())
    assert GenerationRequest.from_json(json.loads(read_infotext(tmp_path / "a.png").items["easel_recipe"])) == request


def test_saving_is_the_same_bytes_each_time():
    assert encode(picture(), INFOTEXT, "png") == encode(picture(), INFOTEXT, "png")


def test_pixels_of_a_png_come_back_exactly():
    image = Image.frombytes("RGB", (16, 16), random.Random(1).randbytes(768))
    assert open_image(encode(image, INFOTEXT, "png")).tobytes() == image.tobytes()


def test_a_text_too_long_for_a_jpeg_is_left_out():
    assert read_infotext(encode(picture(), "x" * 40_000, "jpg")).text == ""
    assert read_infotext(encode(picture(), "x" * 40_000, "webp")).text == "x" * 40_000


def test_a_transparent_picture_becomes_a_jpeg():
    assert open_image(encode(picture("RGBA"), "x", "jpg")).mode == "RGB"


def test_an_unknown_format_is_refused():
    with pytest.raises(BadRequest, match="png, jpg or webp"):
        encode(picture(), "x", "tga")


def test_exif_wins_over_the_chunk():
    chunks = PngInfo()
    chunks.add_text("parameters", "chunk")
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", pnginfo=chunks, exif=make_exif("exif"))
    assert read_infotext(buffer.getvalue()).text == "exif"


def test_the_comment_of_a_gif_is_read():
    buffer = io.BytesIO()
    picture("L").save(buffer, "GIF", comment=INFOTEXT.encode())
    assert read_infotext(buffer.getvalue()).text == INFOTEXT


def test_a_picture_without_texts_has_none():
    for format in ("png", "jpg", "webp"):
        found = read_infotext(encode(picture(), "", format))
        assert (found.text, found.items, found.source) == ("", {}, "")


COMFY = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1}}})
NOVELAI = {"steps": 28, "sampler": "k_euler", "scale": 11.0, "seed": 3, "uc": "dog", "width": 64, "height": 32}
NOVELAI_TEXT = (
    "(cat:1.05)\nNegative prompt: dog\n"
    "Steps: 28, Sampler: Euler, Schedule type: Automatic, CFG scale: 11, Seed: 3, Size: 64x32, Clip skip: 2, ENSD: 31337"
)


@pytest.mark.parametrize(
    ("chunks", "source", "text"),
    [
        ({"parameters": INFOTEXT}, "AUTOMATIC1111", INFOTEXT),
        ({"parameters": "x\nSteps: 1, Version: f2.0.1v1.10.1"}, "Forge", "x\nSteps: 1, Version: f2.0.1v1.10.1"),
        ({"parameters": "x\nSteps: 1, App: SD.Next"}, "SD.Next", "x\nSteps: 1, App: SD.Next"),
        ({"parameters": "x\nSteps: 1, Version: Easel 0.1.0"}, "Easel", "x\nSteps: 1, Version: Easel 0.1.0"),
        ({"prompt": COMFY, "workflow": '{"nodes": []}'}, "ComfyUI", "Seed: 1, RNG: CPU"),
        ({"parameters": INFOTEXT, "prompt": COMFY}, "ComfyUI", INFOTEXT),
        ({"prompt": '{"1": {"class_type": "Unheard"}}'}, "ComfyUI", '{"1": {"class_type": "Unheard"}}'),
        ({"invokeai_metadata": '{"positive_prompt": "cat"}'}, "InvokeAI", "cat"),
        ({"Dream": '"cat" -s 50'}, "InvokeAI", "cat\nSteps: 50"),
        ({"parameters": '{"prompt": "cat", "steps": 30}', "fooocus_scheme": "fooocus"}, "Fooocus", "cat\nSteps: 30"),
        ({"parameters": '{"sui_image_params": {}}'}, "SwarmUI", '{"sui_image_params": {}}'),
        ({"Software": "NovelAI", "Description": "{cat}", "Comment": json.dumps(NOVELAI)}, "NovelAI", NOVELAI_TEXT),
        ({"Software": "NovelAI", "Description": "cat", "Comment": "[" * 50_000}, "NovelAI", "cat"),
        ({"Description": "a holiday"}, "", "a holiday"),
    ],
)
def test_other_programs_are_recognised_and_shown(chunks, source, text):
    found = read_infotext(png(*[(b"tEXt", f"{name}\0{value}".encode()) for name, value in chunks.items()]))
    assert (found.source, found.text) == (source, text)
    assert set(found.items) == set(chunks) - {"parameters"}


def test_comfyui_texts_are_found_in_the_exif_of_a_webp():
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + COMFY
    exif[0x010F] = 'workflow:{"nodes": []}'
    found = read_infotext(with_exif("WEBP", exif.tobytes()))
    assert (found.source, found.items) == ("ComfyUI", {"prompt": COMFY, "workflow": '{"nodes": []}'})


def test_a_recipe_in_the_transparency_is_found_when_the_file_says_nothing_else():
    image = hiding(json.dumps({"Software": "NovelAI", "Description": "{cat}", "Comment": json.dumps(NOVELAI)}))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    found = read_infotext(buffer.getvalue())
    assert (found.source, found.text) == ("NovelAI", NOVELAI_TEXT)
    assert read_infotext(encode(image, INFOTEXT, "png")).text == INFOTEXT


@pytest.mark.parametrize(
    "chunks",
    [
        {"date:create": "2024-01-01T00:00:00+00:00"},
        {"Software": "gThumb 3.12"},
        {"XML:com.adobe.xmp": "<x:xmpmeta/>"},
        {"parameters": "hi"},
    ],
)
def test_a_recipe_in_the_transparency_is_found_beside_texts_that_are_none(chunks):
    image = hiding(json.dumps({"Software": "NovelAI", "Description": "{cat}", "Comment": json.dumps(NOVELAI)}))
    buffer = io.BytesIO()
    info = PngInfo()
    for name, value in chunks.items():
        info.add_text(name, value)
    image.save(buffer, "PNG", pnginfo=info)
    found = read_infotext(buffer.getvalue())
    assert (found.source, found.text) == ("NovelAI", NOVELAI_TEXT)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("scheme", "comment"), [("fooocus", '{"prompt": "cat", "steps": 30, "styles": "[\'Sharp\']"}'), ("a1111", "cat\nSteps: 30, Seed: 1")]
)
def test_fooocus_is_recognised_in_the_exif_of_pictures_that_are_no_pngs(format, scheme, comment):
    exif = Image.Exif()
    exif[0x9286], exif[0x0131], exif[0x927C] = comment, "Fooocus v2.5.5", scheme
    found = read_infotext(with_exif(format, exif.tobytes()))
    assert (found.source, found.text.split(", ")[0]) == ("Fooocus", "cat\nSteps: 30")
    assert [note.name for note in found.notes] == (["styles"] if scheme == "fooocus" else [])


def test_fooocus_is_recognised_by_its_json_alone():
    told = {"prompt": "cat", "steps": 30, "metadata_scheme": "fooocus"}
    for found in (
        read_infotext(encode(picture(), json.dumps(told), "jpg")),
        read_infotext(png((b"tEXt", b"Comment\0" + json.dumps(told).encode()))),
    ):
        assert (found.source, found.text) == ("Fooocus", "cat\nSteps: 30")


def damaged(rng: random.Random) -> bytes:
    """A picture file with metadata that something went wrong with: random chunks, changed bytes, lost ends."""
    kinds = [b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"xxXx", b"tIME"]
    heads = [
        b"",
        b"parameters\0",
        b"parameters\0\0",
        b"parameters\0\1\0\0\0",
        b"Comment\0{",
        b"Software\0NovelAI",
        user_comment(b"UNICODE\0")[6:],
    ]
    chunks = [
        (rng.choice(kinds), rng.choice(heads) + rng.choice([rng.randbytes(rng.randrange(60)), INFOTEXT.encode(), zlib.compress(b"x" * 99)]))
    ]
    data = bytearray(rng.choice([png(*chunks * rng.randrange(1, 4)), encode(picture(), INFOTEXT, rng.choice(["jpg", "webp", "png"]))]))
    for _ in range(rng.choice([0, 1, 3, 30])):
        data[rng.randrange(8, len(data))] = rng.randrange(256)
    return bytes(data[: rng.choice([len(data), len(data), rng.randrange(9, len(data))])])


def test_a_thousand_damaged_files_are_read_or_refused():
    rng = random.Random(20261120)
    read = 0
    for _ in range(1000):
        data = damaged(rng)
        try:
            found = read_infotext(data)
            read += 1
            assert all(isinstance(text, str) for text in [found.text, found.source, *found.items, *found.items.values()])
        except BadRequest:
            assert not data.startswith(PNG_SIGNATURE)
        with contextlib.suppress(BadRequest):
            open_image(data)
    assert read > 800


@pytest.mark.parametrize(
    "data", [b"", b"x", b"not a picture at all", b"%!PS-Adobe-3.0 EPSF", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"GIF89a"]
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(BadRequest, match="picture"):
        read_infotext(data)
    with pytest.raises(BadRequest, match="picture"):
        open_image(data)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="cannot be read"):
        read_infotext(tmp_path / "no.png")


def test_a_cut_off_picture_is_refused():
    data = encode(Image.frombytes("RGB", (64, 64), random.Random(1).randbytes(64 * 64 * 3)), "", "png")
    with pytest.raises(BadRequest, match="damaged"):
        open_image(data[: len(data) // 2])


@pytest.mark.parametrize("side", [8001, 60_000])
def test_a_picture_with_too_many_pixels_is_refused_unread(side):
    assert side * side > MAX_PIXELS
    data = bytearray(png())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(BadRequest, match="64 million"):
        open_image(bytes(data))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pictures_of_every_mode_open_as_they_are(mode):
    buffer = io.BytesIO()
    picture(mode).save(buffer, "PNG")
    assert open_image(buffer.getvalue()).mode == mode


def test_pictures_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    buffer = io.BytesIO()
    picture(size=(4, 8)).save(buffer, "JPEG", exif=exif)
    assert open_image(buffer.getvalue()).size == (8, 4)


@pytest.mark.parametrize("format", FORMATS)
def test_pictures_of_every_format_open(format):
    buffer = io.BytesIO()
    picture(size=(16, 16)).save(buffer, format)
    image = open_image(buffer.getvalue())
    assert (image.size, image.format) == ((16, 16), format)


def test_a_picture_damaged_within_is_refused_whatever_its_decoder_raises():
    with pytest.raises(BadRequest, match="damaged"):
        open_image(b"P2\n2 2\n255\n1 x z w")  # a ValueError
