"""Scripts as jobs: completed before they wait, one job for their owner, surviving a kill, their sheets in the gallery."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.service.conftest import PATIENCE, until
from tests.service.handlers import ran, small
from webui.core.errors import BadRequest, MissingModel
from webui.core.image_metadata import RECIPE, read_infotext
from webui.core.recipe import read_recipe
from webui.core.request import InitImage
from webui.core.scripts.request import ScriptRequest
from webui.core.settings import Settings
from webui.service.service import Job, Service


def plot(prompt: str = "a cat", **arguments: object) -> ScriptRequest:
    given = {"y_type": "Nothing", "z_type": "Nothing"} | arguments
    return ScriptRequest(base=small(prompt=prompt), script="x/y/z plot", arguments=given)


def done(service: Service, request: ScriptRequest, **options: bool) -> Job:
    job = service.wait(service.submit(request, **options), PATIENCE)
    assert job.status == "done", job.error
    return job


def test_nothing_is_left_open_when_a_script_waits(service: Service) -> None:
    request = plot(x_type="Steps", x_values="1,2", y_type="Seed", y_values="-1")
    stored = service.job(service.submit(request)).request
    assert isinstance(stored, ScriptRequest)
    requests = [step.request for step in stored.plan.steps]
    assert [service.complete(each) for each in requests] == requests
    assert {(each.checkpoint, each.vae, each.steps) for each in requests} == {
        ("small.safetensors", "None", 1),
        ("small.safetensors", "None", 2),
    }
    assert len({each.seed for each in requests}) == 1
    assert requests[0].seed >= 0


def test_a_cell_that_cannot_be_carried_out_is_refused_by_name(service: Service) -> None:
    with pytest.raises(BadRequest, match="Steps: 0: steps 0 is out of range"):
        service.submit(plot(x_type="Steps", x_values="5,0"))
    with pytest.raises(MissingModel, match=r"gone: .*gone"):
        service.submit(plot(x_type="Checkpoint name", x_values="small,gone"))
    with pytest.raises(BadRequest, match="'Nobody' not found"):
        service.submit(replace(plot(), script="Nobody"))
    assert service.jobs() == []


def test_a_script_is_one_job_whose_sheet_stands_first(service: Service) -> None:
    job = done(service, plot(x_type="Seed", x_values="5,6", include_lone_images=True))
    assert [(picture.sheet, picture.seed) for picture in job.pictures] == [(True, 5), (False, 5), (False, 6)]
    sheet, *singles = job.pictures
    assert sheet.path.name == "00001-grid.png"
    told = read_infotext(sheet.path)
    assert RECIPE not in told.items
    assert "X Type: Seed" in told.text
    recipe = read_recipe(read_infotext(singles[1].path).items[RECIPE])
    assert recipe is not None
    assert recipe.request == service.complete(small(prompt="a cat", seed=6, variation_seed=recipe.request.variation_seed))


def test_single_pictures_are_kept_but_not_in_the_result_unless_asked_for(service: Service) -> None:
    job = done(service, plot(x_type="Seed", x_values="5,6"))
    assert [picture.sheet for picture in job.pictures] == [True]
    assert len(service.recent_pictures()) == 3


def test_sheets_are_png_whatever_the_format_of_pictures(service: Service) -> None:
    service.set_preferences({"samples_format": "webp"})
    job = done(service, plot(x_type="Seed", x_values="5,6", include_lone_images=True))
    assert [picture.path.suffix for picture in job.pictures] == [".png", ".webp", ".webp"]


def test_temporary_sheets_lie_with_the_other_temporary_pictures(service: Service) -> None:
    job = done(service, plot(x_type="Seed", x_values="5,6"), save=False)
    assert [picture.path.is_file() for picture in job.pictures] == [True]
    assert service.recent_pictures() == []


def test_an_interrupted_script_shows_what_was_made(service: Service, settings: Settings) -> None:
    job_id = service.submit(plot("hold", x_type="Seed", x_values="5-9"))
    until((settings.data_dir / "holding").exists)
    service.interrupt(job_id)
    assert service.wait(job_id, PATIENCE).status == "interrupted"
    assert len(ran(settings.data_dir)) == 1


def test_a_script_goes_on_after_its_worker_died(service: Service, settings: Settings) -> None:
    job = done(service, plot("die-once", x_type="Seed", x_values="5-7", include_lone_images=True))
    assert [(picture.sheet, picture.seed) for picture in job.pictures] == [(True, 5), (False, 5), (False, 6), (False, 7)]


def test_what_a_worker_made_before_it_died_is_not_made_again(service: Service, settings: Settings) -> None:
    request = replace(
        plot("die-once", x_type="Seed", x_values="5-7", include_lone_images=True), base=small(prompt="die-once", batch_size=2)
    )
    job = done(service, request)
    assert [line.partition("|")[2] for line in ran(settings.data_dir)] == ["5", "6", "7"]
    assert [picture.seed for picture in job.pictures] == [5, 5, 6, 6, 7, 7, 8]
    assert read_infotext(job.pictures[0].path).text.startswith("die-once")
    (settings.data_dir / "died").unlink()
    service.set_preferences({"samples_format": "jpg"})  # with loss: they cannot stand for those that were made
    done(service, plot("die-once", x_type="Seed", x_values="5-7", y_type="Steps", y_values="1"))
    assert [line.partition("|")[2] for line in ran(settings.data_dir)] == ["5", "6", "7", "5", "5", "6", "7"]


def test_a_script_survives_a_restart_of_the_server(make_service: Callable[..., Service], settings: Settings) -> None:
    first = make_service()
    job_id = first.submit(plot("hold", x_type="Seed", x_values="5-7", include_lone_images=True))
    until((settings.data_dir / "holding").exists)
    first.stop()
    (settings.data_dir / "go").touch()
    job = make_service().wait(job_id, PATIENCE)
    assert job.status == "done"
    assert [picture.seed for picture in job.pictures] == [5, 5, 6, 7]


def test_loopback_stores_each_picture_by_its_hash(service: Service) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    base = replace(small(prompt="x", seed=3), init=InitImage(image=service.add_input(buffer.getvalue())))
    job = done(service, ScriptRequest(base=base, script="Loopback", arguments={"loops": 3}))
    inits = []
    for picture in job.pictures[1:]:
        recipe = read_recipe(read_infotext(picture.path).items[RECIPE])
        assert recipe is not None
        assert recipe.request.init is not None
        inits.append(recipe.request.init.image)
    fed = [Image.open(service.input_path(name)).convert("RGB").tobytes() for name in inits]
    assert fed == [Image.new("RGB", (64, 64), "red").tobytes(), *(Image.open(each.path).tobytes() for each in job.pictures[1:3])]


def test_a_sheet_of_another_database_is_adopted_as_a_picture(make_service: Callable[..., Service], settings: Settings) -> None:
    service = make_service()
    sheet = done(service, plot(x_type="Seed", x_values="5,6")).pictures[0]
    service.stop()
    for path in Path(settings.database).parent.glob(f"{settings.database.name}*"):
        path.write_bytes(b"damaged" * 100)
    again = make_service()
    assert sheet.path.name in until(lambda: [each.path.name for each in again.recent_pictures() if len(again.recent_pictures()) == 3])
