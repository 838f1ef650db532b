"""Extras over the wire: as A1111's clients send it, one of which is here, with the engine's own handler behind it."""

import base64
import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import webuiapi
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tests.api.conftest import PATIENCE, until
from webui.api.internal import internal_router
from webui.api.routes import sdapi_router
from webui.core.image_metadata import encode
from webui.core.settings import Settings, parse_flags
from webui.service.service import Service, open_service

TEXT = "a fox\nSteps: 2, Sampler: Euler, Seed: 7"
PICTURE = Image.radial_gradient("L").resize((70, 50)).convert("RGB")


def make(settings: Settings) -> dict[type, Any]:
    """The worker's table: Extras, with filters alone."""
    from webui.core.extras import ExtrasRequest
    from webui.engine.extras import run_extras
    from webui.engine.upscaling import no_models
    from webui.service.inputs import InputStore, inputs_folder

    inputs = InputStore(inputs_folder(settings.data_dir))
    return {
        ExtrasRequest: lambda request, control: run_extras(
            request, control, read_input=lambda sha256: inputs.path(sha256).read_bytes(), load=no_models
        )
    }


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("extras")
    for name in ("ESRGAN/4x-Sharp.pth", "RealESRGAN/RealESRGAN_x2plus.pth"):
        (folder / "models" / name).parent.mkdir(parents=True)
        (folder / "models" / name).write_bytes(b"x")
    settings = parse_flags(["--data-dir", str(folder)], {})
    settings = replace(settings, upscaler_dirs=settings.upscaler_dirs[:-1])
    running = open_service(settings, "tests.api.test_extras:make")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    made = FastAPI()
    made.include_router(sdapi_router(service, service.settings))
    made.include_router(internal_router(service))
    return made


@pytest.fixture(scope="module")
def http(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def sent(image: Image.Image = PICTURE, kind: str = "png", text: str = TEXT) -> str:
    return base64.b64encode(encode(image, text, kind)).decode()


def single(http: TestClient, **body: Any) -> httpx.Response:
    return http.post("/sdapi/v1/extra-single-image", json={"image": sent(), "upscaler_1": "Lanczos"} | body)


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_by_a_scale_the_size_is_rounded_down_to_multiples_of_8(http: TestClient) -> None:
    reply = single(http, upscaling_resize=1.5).json()
    assert opened(reply["image"]).size == (104, 72)
    assert reply["html_info"] == "<p>Postprocess upscale by: 1.5, Postprocess upscaler: Lanczos</p>"


def test_to_a_size_with_crop_the_size_is_exact(http: TestClient) -> None:
    body = {"resize_mode": 1, "upscaling_resize_w": 123, "upscaling_resize_h": 45}
    assert opened(single(http, **body).json()["image"]).size == (123, 45)
    assert opened(single(http, **body, upscaling_crop=False).json()["image"]).size == (123, 88)


def test_the_parameters_are_kept_and_the_line_is_added(http: TestClient) -> None:
    info = opened(single(http).json()["image"]).info
    assert (info["parameters"], info["postprocessing"]) == (TEXT, "Postprocess upscale by: 2, Postprocess upscaler: Lanczos")
    told = http.post("/sdapi/v1/png-info", json={"image": single(http).json()["image"]}).json()
    assert told["info"] == TEXT
    assert told["items"]["postprocessing"].startswith("Postprocess upscale by: 2")


def test_by_default_nothing_is_changed(http: TestClient) -> None:
    reply = http.post("/sdapi/v1/extra-single-image", json={"image": sent()}).json()
    assert opened(reply["image"]).tobytes() == PICTURE.tobytes()
    assert reply["html_info"] == "<p></p>"


def test_nulls_texts_for_numbers_and_unknown_fields_are_taken(http: TestClient) -> None:
    reply = single(http, upscaling_resize="2.0", upscaler_2=None, upscale_first=1, show_extras_results=None, gfpgan_visibility="0", new=[])
    assert opened(reply.json()["image"]).size == (136, 96)


def test_a_batch_answers_in_its_order(http: TestClient) -> None:
    images = [{"data": sent(PICTURE.rotate(angle, expand=True)), "name": f"{angle}.png"} for angle in (0, 90)]
    reply = http.post("/sdapi/v1/extra-batch-images", json={"imageList": images, "upscaler_1": "Nearest", "upscaling_resize": 2}).json()
    assert [opened(image).size for image in reply["images"]] == [(136, 96), (96, 136)]
    assert "Nearest" in reply["html_info"]


def test_the_pictures_are_not_among_the_recent_ones(http: TestClient, service: Service) -> None:
    single(http)
    assert service.recent_pictures() == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"gfpgan_visibility": 0.5}, "Easel restores no faces"),
        ({"codeformer_visibility": 1}, "codeformer_visibility 1.0"),
        ({"upscaler_1": "R-ESRGAN 4x+"}, "choose one of: None, Lanczos, Nearest, 4x-Sharp, RealESRGAN_x2plus"),
        ({"upscaler_2": "nobody", "extras_upscaler_2_visibility": 1}, "'nobody' is not known"),
        ({"image": "!!!"}, "Invalid encoded image"),
        ({"image": ""}, "Invalid encoded image"),
        ({"image": base64.b64encode(b"words").decode()}, "no picture"),
        ({"resize_mode": 2}, "resize_mode 2"),
        ({"resize_mode": 1, "upscaling_resize_w": 0}, "0x512 is no size"),
        ({"resize_mode": 1, "upscaling_resize_w": 10**9}, "width 1000000000"),
        ({"upscaling_resize": 0}, "scale 0"),
        ({"upscaling_resize": -2}, "scale -2"),
        ({"upscaling_resize": 1000}, "scale 1000"),
        ({"upscaling_resize": "much"}, "upscaling_resize"),
        ({"extras_upscaler_2_visibility": 2}, "second visibility 2"),
    ],
)
def test_what_cannot_be_done_is_a_4xx_with_a_sentence(http: TestClient, body: dict[str, Any], told: str) -> None:
    reply = single(http, **body)
    assert 400 <= reply.status_code < 500
    assert told in reply.text


def test_a_batch_of_nothing_is_a_4xx(http: TestClient) -> None:
    assert http.post("/sdapi/v1/extra-batch-images", json={"imageList": [], "upscaler_1": "Lanczos"}).status_code == 422
    assert http.post("/sdapi/v1/extra-batch-images", json={}).status_code == 422


def test_upscalers_are_listed_none_first_models_with_scale_and_path(http: TestClient, service: Service) -> None:
    listed = http.get("/sdapi/v1/upscalers").json()
    assert [one["name"] for one in listed] == ["None", "Lanczos", "Nearest", "4x-Sharp", "RealESRGAN_x2plus"]
    path = str(service.settings.data_dir / "models/ESRGAN/4x-Sharp.pth")
    assert listed[3] == {"name": "4x-Sharp", "model_name": "4x-Sharp", "model_path": path, "model_url": None, "scale": 4.0}
    assert listed[0]["scale"] is None


def test_models_of_real_esrgan_and_restorers_of_faces_are_listed(http: TestClient, service: Service) -> None:
    path = str(service.settings.data_dir / "models/RealESRGAN/RealESRGAN_x2plus.pth")
    assert http.get("/sdapi/v1/realesrgan-models").json() == [{"name": "RealESRGAN_x2plus", "path": path, "scale": 2}]
    assert http.get("/sdapi/v1/face-restorers").json() == []


@pytest.fixture
def client(app: FastAPI) -> Iterator[webuiapi.WebUIApi]:
    """What others wrote for A1111's web UI, over a real socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        made = webuiapi.WebUIApi(host="127.0.0.1", port=listener.getsockname()[1])
        yield made
        made.session.close()
        server.should_exit = True
        thread.join(PATIENCE)


def test_the_field_s_client_finds_what_it_expects(client: webuiapi.WebUIApi) -> None:
    result = client.extra_single_image(image=PICTURE, upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=1.5)
    assert result.image.size == (104, 72)
    result = client.extra_batch_images(images=[PICTURE, PICTURE], upscaler_1="Nearest", upscaling_resize=2)
    assert [image.size for image in result.images] == [(136, 96)] * 2
    assert client.get_upscalers()[0]["name"] == "None"
    assert client.get_face_restorers() == []
    assert client.get_realesrgan_models()[0]["name"] == "RealESRGAN_x2plus"


# the page's own routes


def test_the_page_queues_a_job_and_its_pictures_are_kept(http: TestClient, service: Service) -> None:
    images = [service.add_input(encode(PICTURE, TEXT, "png")), service.add_input(encode(PICTURE.rotate(90), "", "jpg"))]
    order = {"images": images, "upscaler": "lanczos", "scale": 2, "tile": 64}
    job = service.wait(http.post("/internal/extras", json={"order": order, "client": "somebody"}).json()["job"])
    assert (job.status, job.owner, [picture.place for picture in job.pictures]) == ("done", "somebody", [0, 1])
    assert [(picture.infotext, picture.seed) for picture in job.pictures] == [(TEXT, 7), ("", 0)]
    assert [picture.id for picture in service.recent_pictures(owner="somebody")] == [picture.id for picture in reversed(job.pictures)]
    assert Path(job.pictures[0].path).name.endswith("-upscaled-1.png")


def test_a_folder_below_outputs_is_worked_on(http: TestClient, service: Service) -> None:
    folder = service.settings.outputs_dir / "mine"
    folder.mkdir(parents=True)
    for name in ("b.png", "a.jpg"):
        (folder / name).write_bytes(encode(PICTURE, name, name[-3:]))
    (folder / "notes.txt").write_text("no picture")
    assert {"name": "mine", "count": 2} in http.get("/internal/extras/folders").json()["folders"]
    told = http.post("/internal/extras", json={"order": {"images": [], "upscaler": "Nearest"}, "folder": "mine"}).json()
    assert [name for name, _ in told["inputs"]] == ["a.jpg", "b.png"]
    assert [picture.infotext for picture in service.wait(told["job"]).pictures] == ["a.jpg", "b.png"]


@pytest.mark.parametrize("folder", ["..", ".", "/", "../models", "mine/..", "/etc", "nowhere", "linked"])
def test_no_other_folder_is(http: TestClient, service: Service, tmp_path: Path, folder: str) -> None:
    (tmp_path / "secret.png").write_bytes(encode(PICTURE, "", "png"))
    link = service.settings.outputs_dir / "linked"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path)
    try:
        reply = http.post("/internal/extras", json={"order": {"images": [], "upscaler": "Nearest"}, "folder": folder})
        assert reply.status_code == 404
        assert "linked" not in http.get("/internal/extras/folders").text
    finally:
        link.unlink()


@pytest.mark.parametrize(
    "order", [{"images": ["../x"]}, {"images": 1}, {"images": [], "scale": "much"}, {"images": ["0" * 64], "upscaler": 7}, {}]
)
def test_the_page_s_order_is_checked(http: TestClient, order: dict[str, Any]) -> None:
    assert 400 <= http.post("/internal/extras", json={"order": order}).status_code < 500
