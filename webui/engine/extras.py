"""The handler of Extras: finished pictures made larger, one after the other."""

from collections.abc import Callable, Iterator

from PIL import Image

from webui.core.event import Control, Event, Finished, Picture, Pictures, Progress
from webui.core.extras import ExtrasRequest, Size
from webui.core.image_metadata import RECIPE, open_image, read_infotext
from webui.engine.masking import LANCZOS
from webui.engine.upscaling import Enlarging, LoadUpscaler, enlarging, told

STEPS = 1000  # into which a picture's progress is divided


def run_extras(request: ExtrasRequest, control: Control, *, read_input: Callable[[str], bytes], load: LoadUpscaler) -> Iterator[Event]:
    """Make the request's pictures larger; yields what happens, each picture as it is done, Finished last.

    A job that is told to stop, or to skip a picture, does so after the tile in hand. read_input: sha256 -> the file's bytes; load: name
    of an upscaler's model -> the model. Raises BadRequest, MissingModel, BadModelFile, OutOfMemory.
    """
    request.validate()
    for number, sha256 in enumerate(request.images):
        if control.interrupted:
            break
        count = len(request.images)
        text = f"Picture {number + 1} of {count}" if count > 1 else f"Upscaling with {request.upscaler}"
        yield Progress(number + 1, count, 0, STEPS, text)
        data = read_input(sha256)
        try:
            for event in _picture(request.single(number), number, data, load):
                if isinstance(event, float):
                    yield Progress(number + 1, count, int(event * STEPS), STEPS, text)
                    _check(control)
                else:
                    yield Pictures((event,))
        except _GivenUp:
            continue
    yield Finished(interrupted=control.interrupted)


class _GivenUp(Exception):
    """The picture in hand is not wanted any more."""


def _check(control: Control) -> None:
    if control.interrupted or control.take_skip():
        raise _GivenUp


def _picture(request: ExtrasRequest, number: int, data: bytes, load: LoadUpscaler) -> Iterator[float | Picture]:
    """The share that is done, 0 .. 1, again and again, and then the picture with the texts of the one that it was made of.

    That one's recipe, which would make the old pixels, is left out.
    """
    image = yield from _result(request, open_image(data), load)
    found = read_infotext(data)
    texts = {name: text for name, text in found.items.items() if name not in (RECIPE, "parameters")}
    line = request.postprocessing()
    if line:
        texts |= {"postprocessing": line, "extras": line}
    yield Picture(image, request, found.text, place=number, texts=texts)


def _result(request: ExtrasRequest, image: Image.Image, load: LoadUpscaler) -> Enlarging:
    """One picture, enlarged by one upscaler or two, cut where that was asked for. Transparency is kept."""
    request.check_size(image.size)
    if request.upscaler == "None":
        return image
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    size, plain = request.covering(image.size), image.convert("RGBA" if has_alpha else "RGB")
    parts = 2 if request.has_second else 1
    result = yield from _part(request, plain.convert("RGB"), size, request.upscaler, load, 0, parts)
    if request.has_second:
        second = yield from _part(request, plain.convert("RGB"), size, request.second_upscaler, load, 1, parts)
        result = Image.blend(result, second, request.second_visibility)
    if has_alpha:
        result.putalpha(plain.getchannel("A").resize(size, LANCZOS))
    return _cropped(result, (request.width, request.height)) if request.width and request.crop else result


def _part(request: ExtrasRequest, image: Image.Image, size: Size, upscaler: str, load: LoadUpscaler, part: int, parts: int) -> Enlarging:
    """What one of the upscalers makes of it; the shares count all of them."""
    steps = enlarging(image, size, upscaler, load, request.tile, request.tile_overlap, always=True)
    return (yield from told(steps, lambda share: (part + share) / parts))


def _cropped(image: Image.Image, size: Size) -> Image.Image:
    """The middle of the picture."""
    left, top = ((whole - wanted) // 2 for whole, wanted in zip(image.size, size, strict=True))
    return image.crop((left, top, left + size[0], top + size[1]))
