"""Draws sheets: pictures in columns and rows with their labels, on a white ground, with Pillow alone."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from PIL import Image, ImageDraw, ImageFont

from webui.core.image_metadata import MAX_PIXELS
from webui.core.scripts.plan import Label, Line, Sheet

GROUND, INK, FAINT = "white", "black", "#8a8a8a"
SMALLEST_FONT, LARGEST_FONT = 11, 72  # pixels
LINE_HEIGHT = 1.35  # of the font's size
PLAIN = 0x250  # characters below are in the font that comes with Pillow
OTHER_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "msyh.ttc", "PingFang.ttc", "arial.ttf")
Size = tuple[int, int]  # width, height
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_sheet(sheet: Sheet, pictures: Mapping[int, Image.Image]) -> list[Image.Image]:
    """The sheet, and behind it its planes where they shall be pictures of their own.

    pictures: by the index of their step; places without one stay empty. Where sizes differ, each picture stands in the middle of its
    place. A sheet has at most MAX_PIXELS pixels: what would be larger is made of smaller pictures.
    """
    cells = [pictures.get(index) for index in sheet.cells]
    look = _fitting(sheet, cells)
    if look.scale < 1:
        cells = [_scaled(cell, look.scale) if cell else None for cell in cells]
    count = len(sheet.columns) * len(sheet.rows)
    planes = [_plane(sheet, look, cells[i * count : (i + 1) * count]) for i in range(len(sheet.planes))]
    whole = planes[0] if len(planes) == 1 else _side_by_side(sheet, look, planes)
    return [whole, *(planes if sheet.parts else ())]


def small_enough(image: Image.Image, places: int) -> Image.Image:
    """The picture, smaller where so many like it would not fit on a sheet: there is no need to keep more of it."""
    most = MAX_PIXELS / max(places, 1)
    return _scaled(image, math.sqrt(most / (image.width * image.height))) if image.width * image.height > most else image


def tiled(images: Sequence[Image.Image]) -> Image.Image:
    """The pictures of one step as one: about as many rows as columns."""
    if len(images) == 1:
        return images[0]
    rows = round(math.sqrt(len(images)))
    columns = math.ceil(len(images) / rows)
    width, height = max(image.width for image in images), max(image.height for image in images)
    whole = Image.new("RGB", (columns * width, rows * height), GROUND)
    for i, image in enumerate(images):
        whole.paste(image, (i % columns * width, i // columns * height))
    return whole


@dataclass(frozen=True)
class Look:
    """Measures of one sheet in pixels. left, top: room for the labels of rows and columns; head: for those of planes."""

    scale: float  # of the pictures
    cell: Size
    margin: int
    font: Font
    line: int  # from one line of text to the next
    left: int
    top: int
    head: int
    plane: Size

    @property
    def pixels(self) -> float:
        return self.plane[0] * (self.plane[1] + self.head)


def _fitting(sheet: Sheet, cells: Sequence[Image.Image | None]) -> Look:
    """The look with the largest pictures, but no larger than they are, for which the sheet is not too large."""
    sizes = [cell.size for cell in cells if cell is not None] or [(64, 64)]
    size = (max(width for width, _ in sizes), max(height for _, height in sizes))
    scale = 1.0
    while True:
        look = _look(sheet, size, scale)
        total = look.pixels * len(sheet.planes)
        if total <= MAX_PIXELS:
            return look
        scale *= min(math.sqrt(MAX_PIXELS / total), 0.99)


def _look(sheet: Sheet, size: Size, scale: float) -> Look:
    width, height = max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
    text = "".join(line.text for label in (*sheet.columns, *sheet.rows, *sheet.planes) for line in label)
    points = min(max((width + height) // 25, SMALLEST_FONT), LARGEST_FONT)
    font, line = _font(points, text), round(points * LINE_HEIGHT)
    margin = round(sheet.margin * scale)
    legend = sheet.legend
    left = width * 3 // 4 if legend and any(sheet.rows) else 0
    top = _label_height(sheet.columns, font, line, (width, height)) if legend else 0
    plane = (left + _reach(len(sheet.columns), width, margin), top + _reach(len(sheet.rows), height, margin))
    head = _label_height(sheet.planes, font, line, (plane[0], height)) if legend else 0
    return Look(scale, (width, height), margin, font, line, left, top, head, plane)


def _reach(count: int, side: int, margin: int) -> int:
    return count * side + (count - 1) * margin


def _label_height(labels: Sequence[Label], font: Font, line: int, room: Size) -> int:
    """Pixels for the tallest label within `room`, with air around it; 0 where there are none."""
    most = max(len(_wrapped(label, font, line, room)) for label in labels)
    return most * line + line if most else 0


def _plane(sheet: Sheet, look: Look, cells: Sequence[Image.Image | None]) -> Image.Image:
    """One plane. cells: row by row."""
    plane = Image.new("RGB", look.plane, GROUND)
    xs = [look.left + i * (look.cell[0] + look.margin) for i in range(len(sheet.columns))]
    ys = [look.top + i * (look.cell[1] + look.margin) for i in range(len(sheet.rows))]
    for i, cell in enumerate(cells):
        if cell is not None:
            x, y = xs[i % len(xs)], ys[i // len(xs)]
            plane.paste(cell, (x + (look.cell[0] - cell.width) // 2, y + (look.cell[1] - cell.height) // 2))
    if look.top:
        for x, label in zip(xs, sheet.columns, strict=True):
            _write(plane, label, look, (x, 0), (look.cell[0], look.top))
    if look.left:
        for y, label in zip(ys, sheet.rows, strict=True):
            _write(plane, label, look, (0, y), (look.left, look.cell[1]))
    return plane


def _side_by_side(sheet: Sheet, look: Look, planes: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (_reach(len(planes), look.plane[0], look.margin), look.head + look.plane[1]), GROUND)
    for i, (plane, label) in enumerate(zip(planes, sheet.planes, strict=True)):
        x = i * (look.plane[0] + look.margin)
        whole.paste(plane, (x, look.head))
        if look.head:
            _write(whole, label, look, (x, 0), (look.plane[0], look.head))
    return whole


def _write(image: Image.Image, label: Label, look: Look, at: Size, room: Size) -> None:
    """The label in the middle of its room."""
    pen = ImageDraw.Draw(image)
    lines = _wrapped(label, look.font, look.line, room)
    x, y = at[0] + room[0] / 2, at[1] + (room[1] - (len(lines) - 1) * look.line) / 2
    for i, line in enumerate(lines):
        middle = y + i * look.line
        pen.text((x, middle), line.text, fill=INK if line.counts else FAINT, font=look.font, anchor="mm")
        if not line.counts:
            half = look.font.getlength(line.text) / 2
            pen.line((x - half, middle, x + half, middle), fill=FAINT, width=max(look.line // 14, 1))


def _wrapped(label: Label, font: Font, line: int, room: Size) -> list[Line]:
    """The label's lines broken to the width of the room, as many as there is height for; the last one tells when there are more."""
    broken = (Line(text, each.counts) for each in label for text in _broken(each.text, font, room[0] * 0.94))
    most = max(room[1] // line, 1)
    lines = list(islice(broken, most + 1))
    return lines if len(lines) <= most else [*lines[: most - 1], Line("…", lines[most - 1].counts)]


def _broken(text: str, font: Font, width: float) -> Iterator[str]:
    """`text` at its blanks, and within words that are too long."""
    row = ""
    for word in text.split():
        longer = f"{row} {word}" if row else word
        if len(longer) <= width and font.getlength(longer) <= width:
            row = longer
            continue
        if row:
            yield row
        row = word
        while len(row) > 1 and (len(row) > width or font.getlength(row) > width):
            fitting = _fitting_part(row, font, width)
            yield row[:fitting]
            row = row[fitting:]
    if row:
        yield row


def _fitting_part(word: str, font: Font, width: float) -> int:
    """How many characters of a word fit, at least one; no character is narrower than a pixel."""
    counts = range(1, min(len(word), int(width) + 1) + 1)
    return max(bisect_right(counts, width, key=lambda count: font.getlength(word[:count])), 1)


def _font(points: int, text: str) -> Font:
    """Pillow's own font; for other scripts than Latin one of the system's, where there is one."""
    if any(ord(char) >= PLAIN for char in text if char != "…"):
        for name in OTHER_FONTS:
            try:
                return ImageFont.truetype(name, points)
            except OSError:
                continue
    return ImageFont.load_default(points)


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((max(int(image.width * scale), 1), max(int(image.height * scale), 1)), Image.Resampling.LANCZOS)
