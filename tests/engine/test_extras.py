"""Extras as a job: sizes, two upscalers mixed, transparency, texts of the old file kept, one tile between a stop and its effect."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from tests.engine.test_upscaler_model import NOISE, compact
from webui.core.errors import BadRequest
from webui.core.event import Event, Finished, Picture, Pictures, Progress
from webui.core.extras import ExtrasRequest
from webui.core.image_metadata import RECIPE, encode
from webui.engine.extras import run_extras
from webui.engine.masking import LANCZOS
from webui.engine.upscaler_model import UpscalerModel
from webui.engine.upscalers import UpscalerStore

TEXT = "a fox\nSteps: 2, Sampler: Euler, Seed: 7"
REQUEST = ExtrasRequest(images=("noise",), upscaler="Lanczos")


def png(image: Image.Image, **texts: object) -> bytes:
    return encode(image, TEXT, "png", **texts)  # type: ignore[arg-type]


FILES = {"noise": png(NOISE, recipe={"old": 1}, texts={"workflow": "{}"}), "second": png(NOISE.rotate(90, expand=True))}


class Going:
    """Nobody stops or skips, unless told after so many progress events."""

    def __init__(self, stop_at: int = 10**9, skip_at: int = 10**9) -> None:
        self.asked, self.stop_at, self.skip_at = 0, stop_at, skip_at

    @property
    def interrupted(self) -> bool:
        return self.asked >= self.stop_at

    previews = False

    def take_skip(self) -> bool:
        self.asked += 1
        return self.asked == self.skip_at


@pytest.fixture
def load(tmp_path) -> Callable[[str], UpscalerModel]:
    from tests.engine.test_upscaling import CPU

    save_file(compact(2).state_dict(), tmp_path / "two.safetensors")
    return UpscalerStore(lambda name: tmp_path / f"{name}.safetensors", CPU).load


def run(request: ExtrasRequest, load: Callable[[str], UpscalerModel], control: Going | None = None, **files: bytes) -> list[Event]:
    return list(run_extras(request, control or Going(), read_input=(FILES | files).__getitem__, load=load))


def pictures(events: list[Event]) -> list[Picture]:
    return [picture for event in events if isinstance(event, Pictures) for picture in event.pictures]


def test_a_scale_gives_multiples_of_8_and_the_pixels_of_the_filter(load):
    (picture,) = pictures(run(replace(REQUEST, scale=1.5), load))
    assert picture.image.size == (104, 128)
    even = NOISE.crop((0, 0, 64, 80))
    (picture,) = pictures(run(replace(REQUEST, scale=1.5), load, noise=png(even)))
    assert picture.image.tobytes() == even.resize((96, 120), LANCZOS).tobytes()


def test_a_size_with_crop_is_exact_and_the_middle_stays(load):
    (picture,) = pictures(run(replace(REQUEST, width=140, height=140), load))
    whole = NOISE.resize((140, 180), LANCZOS)
    assert picture.image.tobytes() == whole.crop((0, 20, 140, 160)).tobytes()


def test_a_size_without_crop_is_covered(load):
    (picture,) = pictures(run(replace(REQUEST, width=140, height=140, crop=False), load))
    assert picture.image.size == (140, 180)


def test_the_second_upscaler_is_mixed_in_by_its_visibility(load):
    first, second = (np.asarray(pictures(run(replace(REQUEST, upscaler=name), load))[0].image, float) for name in ("Lanczos", "two"))
    (picture,) = pictures(run(replace(REQUEST, second_upscaler="two", second_visibility=0.25), load))
    assert np.abs(np.asarray(picture.image, float) - (0.75 * first + 0.25 * second)).max() <= 1


def test_upscaler_none_gives_the_same_pixels(load):
    (picture,) = pictures(run(replace(REQUEST, upscaler="None"), load))
    assert picture.image.tobytes() == NOISE.tobytes()
    assert "postprocessing" not in picture.texts


def test_transparency_is_kept(load):
    clear = NOISE.copy()
    clear.putalpha(Image.linear_gradient("L").resize(NOISE.size))
    (picture,) = pictures(run(replace(REQUEST, upscaler="two"), load, noise=png(clear)))
    assert picture.image.mode == "RGBA"
    assert picture.image.getchannel("A").tobytes() == clear.getchannel("A").resize((136, 176), LANCZOS).tobytes()


def test_the_texts_of_the_old_file_are_kept_and_the_line_is_added(load):
    (picture,) = pictures(run(REQUEST, load))
    line = "Postprocess upscale by: 2, Postprocess upscaler: Lanczos"
    assert picture.infotext == TEXT
    assert picture.texts == {"workflow": "{}", "postprocessing": line, "extras": line}
    read = Image.open(io.BytesIO(encode(picture.image, picture.infotext, "png", texts=picture.texts))).info
    assert (read["parameters"], read["postprocessing"], RECIPE in read) == (TEXT, line, False)


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_files_with_one_text_have_the_line_at_its_end(load, kind):
    (picture,) = pictures(run(REQUEST, load))
    exif = Image.open(io.BytesIO(encode(picture.image, picture.infotext, kind, texts=picture.texts))).getexif()
    told = exif.get_ifd(0x8769)[0x9286].removeprefix(b"UNICODE\0").decode("utf-16-be")
    assert told == f"{TEXT}, Postprocess upscale by: 2, Postprocess upscaler: Lanczos"


def test_each_picture_comes_as_it_is_done_and_in_its_place(load):
    events = run(replace(REQUEST, images=("noise", "second", "noise")), load)
    assert [picture.image.size for picture in pictures(events)] == [(136, 176), (176, 136), (136, 176)]
    assert [picture.place for picture in pictures(events)] == [0, 1, 2]
    assert [picture.request.images for picture in pictures(events)] == [("noise",), ("second",), ("noise",)]
    assert events[-1] == Finished()


def test_progress_tells_the_picture_and_its_tiles(load):
    events = run(replace(REQUEST, images=("noise", "noise"), upscaler="two", tile=64, tile_overlap=8), load)
    told = [event for event in events if isinstance(event, Progress)]
    assert [event.step for event in told] == [0, 250, 500, 750, 1000] * 2
    assert [event.fraction for event in told] == sorted(event.fraction for event in told)
    assert told[-1].text == "Picture 2 of 2"


def test_a_stop_comes_after_one_tile_and_keeps_what_is_done(load):
    request = replace(REQUEST, images=("noise", "noise", "noise"), upscaler="two", tile=64, tile_overlap=8)
    events = run(request, load, Going(stop_at=4 + 1))  # asked after each tile; the fifth answer is the last but one
    assert len(pictures(events)) == 1
    assert [event.step for event in events if isinstance(event, Progress)] == [0, 250, 500, 750, 1000, 0, 250, 500]
    assert events[-1] == Finished(interrupted=True)


def test_a_skip_drops_the_picture_in_hand_alone(load):
    request = replace(REQUEST, images=("noise", "second", "noise"), upscaler="two", tile=64, tile_overlap=8)
    events = run(request, load, Going(skip_at=4 + 2))
    assert [picture.place for picture in pictures(events)] == [0, 2]
    assert events[-1] == Finished()


def test_a_picture_that_would_become_too_large_is_refused(load):
    with pytest.raises(BadRequest, match="would become one of"):
        run(replace(REQUEST, scale=16), load, noise=png(Image.new("L", (1200, 600))))
