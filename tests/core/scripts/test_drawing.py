import numpy as np
import pytest
from PIL import Image

from webui.core.image_metadata import MAX_PIXELS
from webui.core.scripts.drawing import draw_sheet, small_enough, tiled
from webui.core.scripts.plan import Line, Sheet

WHITE = (255, 255, 255)


def labels(*texts: str) -> tuple[tuple[Line, ...], ...]:
    return tuple((Line(text),) for text in texts)


def picture(number: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 250, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise)


def same(sheet: Image.Image, x: int, y: int, cell: Image.Image) -> bool:
    return sheet.crop((x, y, x + cell.width, y + cell.height)).tobytes() == cell.tobytes()


def test_pictures_lie_row_by_row_with_margins_between() -> None:
    cells = {i: picture(i) for i in range(6)}
    sheet = Sheet(columns=labels("a", "b", "c"), rows=labels("x", "y"), cells=tuple(range(6)), legend=False, margin=5)
    (drawn,) = draw_sheet(sheet, cells)
    assert drawn.size == (3 * 64 + 2 * 5, 2 * 48 + 5)
    assert all(same(drawn, i % 3 * 69, i // 3 * 53, cell) for i, cell in cells.items())


def test_the_legend_stands_above_and_to_the_left_and_leaves_the_pictures_as_they_are() -> None:
    cells = {i: picture(i) for i in range(4)}
    plain = Sheet(columns=labels("Steps: 1", "Steps: 2"), rows=labels("Euler", "Heun"), cells=(0, 1, 2, 3), legend=False)
    (drawn,) = draw_sheet(Sheet(columns=plain.columns, rows=plain.rows, cells=plain.cells), cells)
    (bare,) = draw_sheet(plain, cells)
    left, top = drawn.width - bare.width, drawn.height - bare.height
    assert left == 48
    assert top > 10
    assert same(drawn, left, top, bare)
    assert drawn.crop((0, 0, left, top)).getcolors() == [(left * top, WHITE)]
    assert len(drawn.crop((left, 0, drawn.width, top)).getcolors(10**6) or ()) > 1
    assert len(drawn.crop((0, top, left, drawn.height)).getcolors(10**6) or ()) > 1


def test_planes_stand_side_by_side_and_may_be_pictures_of_their_own() -> None:
    cells = {i: picture(i) for i in range(4)}
    sheet = Sheet(columns=labels("a", "b"), planes=labels("p", "q"), cells=(0, 1, 2, 3), parts=True)
    whole, first, second = draw_sheet(sheet, cells)
    assert whole.width == first.width + second.width
    assert same(whole, first.width, whole.height - second.height, second)
    assert same(first, 0, first.height - 48, cells[0])


def test_what_is_missing_stays_white_and_smaller_pictures_stand_in_the_middle() -> None:
    sheet = Sheet(columns=labels("a", "b", "c"), cells=(0, 1, 2), legend=False)
    (drawn,) = draw_sheet(sheet, {0: picture(0, (64, 64)), 2: picture(2, (32, 16))})
    assert drawn.size == (192, 64)
    assert drawn.crop((64, 0, 128, 64)).getcolors() == [(64 * 64, WHITE)]
    assert same(drawn, 128 + 16, 24, picture(2, (32, 16)))


def test_a_sheet_that_would_be_too_large_is_made_of_smaller_pictures() -> None:
    sheet = Sheet(columns=labels("a", "b", "c"), rows=labels("x", "y"), cells=tuple(range(6)))
    huge = Image.new("RGB", (4096, 4096), "red")
    (drawn,) = draw_sheet(sheet, dict.fromkeys(range(6), small_enough(huge, 6)))
    assert 0.8 * MAX_PIXELS < drawn.width * drawn.height <= MAX_PIXELS
    assert small_enough(huge, 3) is huge


@pytest.mark.parametrize(("count", "size"), [(1, (64, 48)), (2, (128, 48)), (4, (128, 96)), (5, (192, 96))])
def test_the_pictures_of_a_batch_become_one(count: int, size: tuple[int, int]) -> None:
    whole = tiled([picture(i) for i in range(count)])
    assert whole.size == size
    assert same(whole, 0, 0, picture(0))


@pytest.mark.parametrize("text", ["x" * 5000, "word " * 3000, "日本語のプロンプト", "ÄÖÜ ß é", "\u202e\u0000🙂", " "])
def test_any_label_is_drawn(text: str) -> None:
    sheet = Sheet(columns=((Line(text, False), Line(text)),), rows=labels(text), planes=labels(text, "q"), cells=(0, 1))
    (drawn,) = draw_sheet(sheet, {0: picture(0), 1: picture(1)})
    assert drawn.height <= 3 * 48 + 3 * 20
