"""The X-ray's routes on the real service: a study is ordered, shown to its owner, and saved."""

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.api.conftest import PATIENCE
from webui.api.internal import internal_router
from webui.core.request import GenerationRequest
from webui.core.xray import Noising, Recording, XrayRequest
from webui.service.service import Service

ME, OTHER = "browser-one", "browser-two"


@pytest.fixture(scope="module")
def page(service: Service) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(internal_router(service))
    with TestClient(app) as client:
        yield client


@pytest.fixture
def order(page: TestClient, service: Service) -> Callable[..., str]:
    """POST a study of a small request unless another is named; wait for its end."""

    def send(**fields: Any) -> str:
        given = {"client": ME, "request": {"prompt": "a red circle, blue", "seed": 5}, **fields}
        answer = page.post("/internal/xray", json=given)
        assert answer.status_code == 200, answer.text
        service.wait(answer.json()["job"], timeout=PATIENCE)
        return str(answer.json()["job"])

    return send


def get(page: TestClient, path: str, client: str = ME, **query: Any) -> Any:
    return page.get(f"/internal/xray{path}", params={"client": client, **query})


def test_a_study_is_told_step_by_step(page: TestClient, order: Callable[..., str]) -> None:
    job = order()
    told = get(page, f"/{job}").json()
    assert (told["status"], told["kind"], [step["step"] for step in told["steps"]]) == ("done", "recording", [1, 2])
    assert told["request"]["base"]["seed"] == 5
    assert [step["step"] for step in get(page, f"/{job}", after=1).json()["steps"]] == [2]
    panels = get(page, f"/{job}/files/panels-001.webp")
    assert (panels.headers["content-type"], Image.open(io.BytesIO(panels.content)).size) == ("image/webp", (32, 8))
    assert job in [each["id"] for each in get(page, "").json()["xrays"]]


@pytest.mark.parametrize("path", ["", "/files/panels-001.webp", "/export/numbers.csv", "/words"])
def test_nobody_else_sees_it(page: TestClient, order: Callable[..., str], path: str) -> None:
    job = order()
    assert get(page, f"/{job}{path}").status_code == 200
    assert get(page, f"/{job}{path}", client=OTHER).status_code == 403
    assert job not in [each["id"] for each in get(page, "", client=OTHER).json()["xrays"]]


def test_it_leaves_no_picture_behind_and_shows_on_its_own_tab(service: Service, order: Callable[..., str], page: TestClient) -> None:
    job = order()
    assert service.job(job).pictures == ()
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        snapshots = {each["id"]: each for each in socket.receive_json()["jobs"]}
    assert snapshots[job]["tab"] == "xray"
    assert "a red circle" in snapshots[job]["title"]


def test_a_job_and_a_finished_picture_are_looked_into_again(page: TestClient, service: Service, order: Callable[..., str]) -> None:
    first = service.submit(GenerationRequest(prompt="a", width=64, height=64, seed=9, batch_size=2), owner=ME)
    done = service.wait(first, timeout=PATIENCE)
    by_job = service.job(order(job=first)).request
    by_picture = service.job(order(picture=done.pictures[1].id)).request
    assert isinstance(by_job, XrayRequest)
    assert isinstance(by_picture, XrayRequest)
    assert (by_job.base.seed, by_job.base.batch_size, by_picture.base.seed) == (9, 1, 10)
    stolen = page.post("/internal/xray", json={"client": OTHER, "job": first})
    assert stolen.status_code == 403


def test_a_study_of_a_study_is_of_the_same_request(service: Service, order: Callable[..., str]) -> None:
    again = service.job(order(job=order(), kind="words", study={"by": "parts"})).request
    assert isinstance(again, XrayRequest)
    assert (again.kind, again.base.seed) == ("words", 5)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"kind": "lines"}, 422),
        ({"kind": "noising", "study": {}}, 422),
        ({"kind": "noising", "study": {"image": "../../secret"}}, 404),
        ({"kind": "noising", "study": {"image": "0" * 64, "timesteps": [[1]]}}, 422),
        ({"study": {"steps": "all"}}, 422),
        ({"job": "nobody"}, 404),
        ({"picture": 10**30}, 404),
        ({"input": "0" * 64}, 404),
        ({"request": {"prompt": 5}}, 422),
        ({"kind": "interpolation", "study": {"prompt": "a <lora:gone:1>"}}, 404),
    ],
)
def test_what_cannot_be_studied_is_refused_with_a_sentence(page: TestClient, fields: dict[str, Any], status: int) -> None:
    answer = page.post("/internal/xray", json={"client": ME, "request": {"prompt": "a", "seed": 1}, **fields})
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"]


@pytest.mark.parametrize("order", [{}, {"client": ME}, {"kind": "words"}, {"request": {"seed": 1}}, {"kind": "noising"}])
def test_an_order_that_names_nothing_is_refused_and_queues_nothing(page: TestClient, service: Service, order: dict[str, Any]) -> None:
    before = len(service.jobs(active_only=False))
    answer = page.post("/internal/xray", json=order)
    assert (answer.status_code, bool(answer.json()["errors"])) == (422, True)
    assert len(service.jobs(active_only=False)) == before


def test_a_dropped_picture_is_what_noise_is_laid_on(page: TestClient, service: Service, order: Callable[..., str]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(buffer, "PNG")
    kept = page.post("/internal/inputs", files={"file": ("a.png", buffer.getvalue())}).json()["input"]
    request = service.job(order(kind="noising", study={"image": kept, "timesteps": [1, 500]}, request={})).request
    assert isinstance(request, XrayRequest)
    assert request.study == Noising(image=kept, timesteps=(1, 500))


def test_numbers_are_a_table_and_texts_in_it_are_no_formulas(page: TestClient, order: Callable[..., str]) -> None:
    job = order()
    answer = get(page, f"/{job}/export/numbers.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert float(rows[0]["sigma"]) == -1.5  # a number stays one
    assert "attachment" in answer.headers["content-disposition"]
    (token,) = csv.DictReader(io.StringIO(get(page, f"/{job}/export/tokens.csv").text))
    assert token["text"] == "'=1+1</w>"
    assert len(get(page, f"/{job}/export/channels.csv").text.splitlines()) == 3


def test_panels_are_saved_as_a_strip_and_as_a_moving_picture(page: TestClient, order: Callable[..., str]) -> None:
    job = order()
    strip = Image.open(io.BytesIO(get(page, f"/{job}/export/strip.png", panel="noise").content)).convert("RGB")
    assert strip.size == (16, 8)
    assert [strip.getpixel((x, 4)) for x in (4, 12)] == [(60, 60, 0), (60, 120, 0)]
    moving = Image.open(io.BytesIO(get(page, f"/{job}/export/steps.gif").content))
    assert (moving.format, moving.n_frames, moving.size) == ("GIF", 2, (8, 8))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "status"), [("strip.exe", 422), ("strip.png?panel=none", 422), ("walls.csv", 404), ("nothing", 422)])
def test_what_cannot_be_saved_is_told(page: TestClient, order: Callable[..., str], kind: str, status: int) -> None:
    job = order()
    name, _, panel = kind.partition("?panel=")
    assert get(page, f"/{job}/export/{name}", **({"panel": panel} if panel else {})).status_code == status


def test_the_cost_of_a_ranking_is_told_before(page: TestClient, order: Callable[..., str]) -> None:
    job = order()
    told = get(page, f"/{job}/words", by="words", steps=8).json()
    assert told == {"pieces": ["a", "red", "circle", "blue"], "pictures": 5, "steps": 8, "seconds": 0.25 * 8 * 5}
    assert get(page, f"/{job}/words", by="letters").status_code == 422


def test_a_study_is_listed_however_many_jobs_came_after_it_and_while_it_waits(
    page: TestClient, service: Service, order: Callable[..., str]
) -> None:
    job = order(client="browser-four")
    for _ in range(3):
        service.wait(service.submit(GenerationRequest(prompt="a", width=64, height=64, seed=1), owner="browser-four"), timeout=PATIENCE)
    held = service.submit(GenerationRequest(prompt="hold", width=64, height=64, seed=1), owner="browser-four")
    waiting = page.post("/internal/xray", json={"client": "browser-four", "request": {"prompt": "b", "seed": 1}}).json()["job"]
    listed = [(each["id"], each["live"]) for each in get(page, "", client="browser-four").json()["xrays"]]
    service.interrupt(held)
    service.wait(waiting, timeout=PATIENCE)
    assert listed == [(waiting, True), (job, False)]


def test_a_job_that_is_recorded_as_it_runs_keeps_its_picture_and_its_tab(service: Service, page: TestClient) -> None:
    request = GenerationRequest(prompt="a red circle, blue", width=64, height=64, steps=3, seed=5)
    job = service.submit(XrayRequest(base=request, study=Recording(first=True)), owner=ME)
    done = service.wait(job, timeout=PATIENCE)
    plain = service.wait(service.submit(request, owner=ME), timeout=PATIENCE)
    first, second = (Image.open(each.pictures[0].path) for each in (done, plain))
    assert first.tobytes() == second.tobytes()
    assert first.info["parameters"] == second.info["parameters"]
    assert len(get(page, f"/{job}").json()["steps"]) == 2
    assert job in [each["id"] for each in get(page, "").json()["xrays"]]
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        snapshots = {each["id"]: each for each in socket.receive_json()["jobs"]}
    assert (snapshots[job]["tab"], snapshots[job]["xray"], len(snapshots[job]["pictures"])) == ("txt2img", True, 1)
    assert (snapshots[plain.id]["tab"], snapshots[plain.id]["xray"]) == ("txt2img", False)
    other = service.wait(service.queue.duplicate(job, ME, new_seed=True), timeout=PATIENCE)
    assert other.pictures[0].seed != 5


def test_a_picture_of_another_program_is_looked_into_by_its_text(page: TestClient, service: Service, order: Callable[..., str]) -> None:
    def kept(text: str) -> str:
        chunks, buffer = PngInfo(), io.BytesIO()
        chunks.add_text("parameters", text)
        Image.new("RGB", (16, 16), "teal").save(buffer, "PNG", pnginfo=chunks)
        return service.add_input(buffer.getvalue())

    request = service.job(order(input=kept("a fox\nSteps: 3, Sampler: Euler, CFG scale: 4, Seed: 9, Size: 64x128, Batch size: 2"))).request
    assert isinstance(request, XrayRequest)
    base = request.base
    assert (base.prompt, base.steps, base.seed, base.width, base.height, base.batch_size) == ("a fox", 3, 9, 64, 128, 1)
    for unusable in ("Steps: 0, Seed: 9", "Steps: 3, Sampler: Nope, Seed: 9", "Steps: 3, Seed: 9, Denoising strength: 0.5"):
        answer = page.post("/internal/xray", json={"client": ME, "input": kept(f"a fox\n{unusable}, CFG scale: 4, Size: 64x64")})
        assert (answer.status_code, bool(answer.json()["errors"])) == (422, True)
    answer = page.post("/internal/xray", json={"client": ME, "input": kept("")})
    assert answer.status_code == 422
    assert "nothing in this picture says how it was made" in answer.json()["errors"]
