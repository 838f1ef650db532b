import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from PIL import Image

from webui.core.errors import BadRequest, OutOfMemory
from webui.core.event import Control, Event, Finished, Notice, Picture, Pictures, Progress
from webui.core.infotext import read, write
from webui.core.request import GenerationRequest, InitImage
from webui.core.scripts.request import ScriptRequest
from webui.core.scripts.running import run_script
from webui.core.scripts.table import find_script

BASE = GenerationRequest(prompt="a cat", seed=1, variation_seed=2, width=64, height=64, steps=4)


class Room:
    """What a worker has: inputs, and requests that it was asked for. Prompts with "fail" fail; `stop` is the seed to stop at."""

    previews = False

    def __init__(self, stop: int = -1, skip: int = -1) -> None:
        self.inputs: dict[str, bytes] = {}
        self.asked: list[GenerationRequest] = []
        self.interrupted = False
        self.stop, self.skip = stop, skip

    def take_skip(self) -> bool:
        return False

    def add_input(self, data: bytes) -> str:
        self.inputs[str(len(self.inputs))] = data
        return str(len(self.inputs) - 1)

    def make(self, request: GenerationRequest, control: Control) -> Iterator[Event]:
        self.asked.append(request)
        if "fail" in request.prompt:
            raise OutOfMemory("memory ran out")
        self.interrupted = request.seed == self.stop
        for batch in range(1, request.batch_count + 1):
            yield Progress(batch, request.batch_count, request.steps, request.steps)
            if request.seed != self.skip:
                singles = [request.single((batch - 1) * request.batch_size + i) for i in range(request.batch_size)]
                yield Pictures(tuple(Picture(image(single), single, write(single)) for single in singles))
        yield Finished(self.interrupted)

    def run(self, script: str, base: GenerationRequest = BASE, **arguments: object) -> list[Event]:
        plan = find_script(script).plan(base, arguments, lambda: 7)
        request = ScriptRequest(base=base, script=script, arguments=arguments).planned(plan)
        return list(run_script(request, self, make=self.make, add_input=self.add_input))


def image(single: GenerationRequest) -> Image.Image:
    return Image.new("RGB", (64, 64), (single.seed % 256, single.steps, int(single.cfg_scale)))


def pictures(events: list[Event]) -> list[Picture]:
    return [picture for event in events if isinstance(event, Pictures) for picture in event.pictures]


def test_the_pictures_come_one_after_the_other_and_the_sheet_last() -> None:
    *singles, sheet = pictures(Room().run("X/Y/Z plot", x_type="Steps", x_values="4,8", y_type="Seed", y_values="5,6"))
    assert [(single.request.steps, single.request.seed, single.place, single.sheet) for single in singles] == [
        *((4, 5, 0, False), (8, 5, 1, False), (4, 6, 2, False), (8, 6, 3, False))
    ]
    assert sheet.sheet
    assert sheet.image.getpixel((sheet.image.width - 1, sheet.image.height - 1)) == (6, 8, 7)
    told = read(sheet.infotext).params
    assert (told["Script"], told["X Type"], told["X Values"], told["Fixed Y Values"]) == ("X/Y/Z plot", "Steps", "4,8", "5, 6")
    assert sheet.infotext.rpartition(", Version: ")[2] == singles[0].infotext.rpartition(", Version: ")[2]


def test_a_part_of_a_sheet_tells_its_own_first_picture() -> None:
    axes = {"x_type": "Steps", "x_values": "4,8", "z_type": "Seed", "z_values": "5,6"}
    whole, *parts = pictures(Room().run("X/Y/Z plot", **axes, include_sub_grids=True))[-3:]
    assert [part.request.seed for part in (whole, *parts)] == [5, 5, 6]
    told = [read(part.infotext).params for part in (whole, *parts)]
    assert [each["Seed"] for each in told] == ["5", "5", "6"]
    assert [each["X Values"] for each in told] == ["4,8"] * 3
    assert ["Z Values" in each or "Fixed Z Values" in each for each in told] == [True, False, False]


def test_pictures_keep_their_place_whatever_the_order_of_making() -> None:
    made = pictures(Room().run("X/Y/Z plot", x_type="Checkpoint name", x_values="a,b,a", include_lone_images=True))
    assert [(picture.request.checkpoint, picture.place) for picture in made[:3]] == [("a", 0), ("a", 2), ("b", 1)]


def test_progress_is_told_over_all_by_steps() -> None:
    events = Room().run("X/Y/Z plot", x_type="Steps", x_values="10,30", y_type="Nothing")
    told = [event for event in events if isinstance(event, Progress)]
    assert [(each.batch, each.batches, each.fraction) for each in told] == [(1, 2, 0.25), (2, 2, 1.0)]


def test_an_interrupted_script_lays_out_what_there_is() -> None:
    room = Room(stop=6)
    events = room.run("X/Y/Z plot", x_type="Seed", x_values="5-9")
    assert [request.seed for request in room.asked] == [5, 6]
    assert [picture.sheet for picture in pictures(events)] == [False, False, True]
    assert events[-1] == Finished(interrupted=True)


def test_a_step_that_was_skipped_stays_empty() -> None:
    *singles, sheet = pictures(Room(skip=6).run("X/Y/Z plot", x_type="Seed", x_values="5-7", draw_legend=False))
    assert [single.request.seed for single in singles] == [5, 7]
    assert sheet.image.getpixel((96, 32)) == (255, 255, 255)


def test_a_step_that_fails_is_left_out_and_told_once() -> None:
    events = Room().run("X/Y/Z plot", x_type="Prompt S/R", x_values="cat,fail,dog", y_type="Steps", y_values="4,5")
    assert [event.text for event in events if isinstance(event, Notice)] == ["fail, Steps: 4 was left out: memory ran out"]
    assert len(pictures(events)) == 5
    assert events[-1] == Finished()


def test_where_nothing_can_be_made_the_error_is_raised() -> None:
    with pytest.raises(OutOfMemory):
        Room().run("Prompt matrix", replace(BASE, prompt="fail|more"))


def test_a_batch_is_one_cell_of_the_sheet() -> None:
    *singles, sheet = pictures(Room().run("X/Y/Z plot", replace(BASE, batch_size=2), x_type="Steps", x_values="4,8", draw_legend=False))
    assert len(singles) == 4
    assert sheet.image.size == (256, 64)


def test_loopback_feeds_each_picture_to_the_next() -> None:
    room = Room()
    base = replace(BASE, init=InitImage(image="0" * 64))
    made = pictures(room.run("Loopback", base, loops=3))
    assert [request.init.image for request in room.asked if request.init] == ["0" * 64, "0", "1"]
    fed = [Image.open(io.BytesIO(data)) for data in room.inputs.values()]
    assert [picture.tobytes() for picture in fed] == [picture.image.tobytes() for picture in made[:2]]
    assert made[-1].sheet
    assert made[-1].image.size == (192, 64)


def test_after_a_skip_loopback_goes_on_with_the_next_batch() -> None:
    room = Room(skip=2)
    room.run("Loopback", replace(BASE, init=InitImage(image="0" * 64), batch_count=2), loops=3)
    assert [request.seed for request in room.asked] == [1, 2, 4, 5, 6]


def test_other_errors_end_the_job() -> None:
    room = Room()

    def broken(request: GenerationRequest, control: Control) -> Iterator[Event]:
        raise ValueError("a defect")
        yield

    request = ScriptRequest(base=BASE, script="Prompt matrix").planned(find_script("Prompt matrix").plan(BASE, {}, lambda: 7))
    with pytest.raises(ValueError, match="a defect"):
        list(run_script(request, room, make=broken, add_input=room.add_input))
    assert not issubclass(ValueError, BadRequest)
