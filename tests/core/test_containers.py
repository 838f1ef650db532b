"""Texts in PNG chunks and EXIF: every encoding is read, nothing raises, nothing unpacks without end."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.core.test_image_metadata import png, user_comment, with_exif
from webui.core.containers import MAX_TEXT, PNG_SIGNATURE, exif_texts, make_exif, png_texts
from webui.core.image_metadata import read_infotext

CHINESE = "猫, Steps: 20"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "raw",
    [
        b"UNICODE\0" + CHINESE.encode("utf-16-be"),
        b"UNICODE\0" + CHINESE.encode("utf-16-le"),
        b"UNICODE\0\xff\xfe" + CHINESE.encode("utf-16-le"),
        b"UNICODE\0\xfe\xff" + CHINESE.encode("utf-16-be"),
        b"ASCII\0\0\0" + CHINESE.encode(),
        bytes(8) + CHINESE.encode(),
        b"JIS\0\0\0\0\0" + CHINESE.encode("iso2022_jp"),
        CHINESE.encode(),
    ],
)
def test_user_comments_are_read_in_every_encoding(raw, order):
    for format in ("JPEG", "WEBP", "PNG"):
        assert read_infotext(with_exif(format, user_comment(raw, order))).text == CHINESE


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_ascii_follows_the_byte_order_of_the_block(order):
    raw = b"UNICODE\0" + "猫狗鸟".encode(order)
    assert read_infotext(with_exif("JPEG", user_comment(raw, "<" if order == "utf-16-le" else ">"))).text == "猫狗鸟"


def test_our_exif_is_that_which_pillow_makes():
    exif = Image.Exif()
    exif.load(make_exif("猫 cat"))
    assert exif.get_ifd(0x8769) == {0x9286: b"UNICODE\0" + "猫 cat".encode("utf-16-be")}


def test_the_first_chunk_of_a_name_counts_and_pixels_are_passed_over():
    texts, exif = png_texts(png((b"tEXt", b"a\x001"), (b"IDAT", b"tEXt"), (b"iTXt", b"a\0\0\0\0\x002"), (b"eXIf", b"e")))
    assert (texts, exif) == ({"a": "1"}, b"e")


def test_packed_international_text_is_read():
    packed = zlib.compress("猫".encode())
    assert png_texts(png((b"iTXt", b"parameters\0\1\0zh\0name\0" + packed)))[0] == {"parameters": "猫"}


def test_texts_of_the_main_directory_are_read_by_name():
    exif = Image.Exif()
    exif[0x0131] = "NovelAI"
    exif[0x010E] = "a cat"
    assert exif_texts(exif.tobytes()) == ({"Software": "NovelAI", "ImageDescription": "a cat"}, "")


def test_utf_8_in_a_latin_1_chunk_is_recognised():
    assert read_infotext(png((b"tEXt", b"parameters\0" + CHINESE.encode()))).text == CHINESE
    assert read_infotext(png((b"tEXt", "parameters\0café".encode("latin-1")))).text == "café"


def test_a_bomb_in_a_text_chunk_is_cut_off():
    found = read_infotext(png((b"zTXt", b"parameters\0\0" + zlib.compress(bytes(100_000_000)))))
    assert len(found.text) <= MAX_TEXT


def test_many_bombs_are_cut_off_together():
    bomb = zlib.compress(bytes(4_000_000))
    texts, _ = png_texts(png(*[(b"zTXt", f"{i}".encode() + b"\0\0" + bomb) for i in range(100)]))
    assert sum(map(len, texts.values())) <= 9 * MAX_TEXT


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"eXIf"]))
def test_no_chunk_makes_the_reader_fail(body, kind):
    read_infotext(png((kind, body)))
    read_infotext(png((kind, b"parameters\0" + body)))
    read_infotext(PNG_SIGNATURE + body)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_exif_makes_the_reader_fail(body):
    for exif in (body, b"II*\0\x08\0\0\0" + body, b"MM\0*\0\0\0\x08" + body, user_comment(body)[6:], user_comment(b"UNICODE\0" + body)[6:]):
        read_infotext(png((b"eXIf", exif)))


def test_pillow_finds_comment_and_description_in_our_exif():
    exif = Image.Exif()
    exif.load(make_exif("猫 cat", "easel_recipe:{}"))
    assert exif[0x010E] == "easel_recipe:{}"
    assert exif.get_ifd(0x8769)[0x9286] == b"UNICODE\0" + "猫 cat".encode("utf-16-be")
    assert exif_texts(make_exif("猫 cat", "easel_recipe:{}")) == ({"ImageDescription": "easel_recipe:{}"}, "猫 cat")
