"""A real server on a socket, behind the guard, spoken to by a client that others wrote for A1111's web UI."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
import webuiapi
from fastapi import FastAPI
from PIL import Image

from tests.api.conftest import FACTORY, PATIENCE, until
from webui.api import bodies
from webui.api.guard import Guard
from webui.api.routes import sdapi_router
from webui.core.settings import Settings
from webui.service.service import open_service


@pytest.fixture(scope="module")
def port(app: FastAPI, settings: Settings) -> Iterator[int]:
    """A server with a password (that of the fixture `settings`) on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(Guard(app, settings), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        yield int(listener.getsockname()[1])
        server.should_exit = True
        thread.join(PATIENCE)


@pytest.fixture
def api(port: int) -> Iterator[webuiapi.WebUIApi]:
    client = webuiapi.WebUIApi(host="127.0.0.1", port=port, username="ann", password="very-secret")
    yield client
    client.session.close()


def test_txt2img_and_png_info_of_its_picture(api: webuiapi.WebUIApi) -> None:
    result = api.txt2img(prompt="a cat", negative_prompt="dog", seed=1003, steps=2, cfg_scale=7, width=64, height=64, batch_size=2)
    assert [image.size for image in result.images] == [(64, 64)] * 2
    assert result.info["all_seeds"] == [1003, 1004]
    assert result.info["sampler_name"] == "Euler a"  # the client's default
    assert result.image.info["parameters"] == result.info["infotexts"][0]
    assert api.png_info(result.image).info == result.info["infotexts"][0]


def test_img2img_and_inpainting(api: webuiapi.WebUIApi) -> None:
    picture, mask = Image.new("RGBA", (64, 64), "red"), Image.new("L", (32, 32), 255)
    assert len(api.img2img(images=[picture], prompt="x", seed=5, steps=2, width=64, height=64, cfg_scale=6.5).images) == 1
    painted = api.img2img(images=[picture], mask_image=mask, inpainting_fill=1, prompt="x", seed=5, steps=2, width=64, height=64)
    assert painted.parameters["mask"] is None


def test_options_models_and_flags(api: webuiapi.WebUIApi) -> None:
    api.util_set_model("people/beta")
    assert api.util_get_current_model().startswith("people/beta.ckpt [")
    api.util_set_model("alpha.ckpt")
    assert api.util_get_current_model().startswith("alpha.ckpt [")
    assert "Euler a" in api.util_get_sampler_names()
    assert "karras" in api.util_get_scheduler_names()
    assert api.get_cmd_flags()["port"] == 7860
    assert api.get_sd_vae()
    assert api.get_memory()["ram"]
    api.refresh_checkpoints()


def test_every_list_that_the_client_knows(api: webuiapi.WebUIApi) -> None:
    assert {"name", "aliases", "options"} <= set(api.get_samplers()[0])
    assert {"name", "label"} <= set(api.get_schedulers()[0])
    assert api.get_upscalers()[0]["name"] == "None"
    assert api.get_latent_upscale_modes()[0]["name"] == "Latent"
    assert {"title", "model_name", "hash", "sha256", "filename"} <= set(api.get_sd_models()[0])
    assert api.util_get_model_names()
    for told in (api.get_loras(), api.get_hypernetworks(), api.get_prompt_styles(), api.custom_get("extensions", baseurl=True)):
        assert isinstance(told, list)
    assert set(api.get_embeddings()) == {"loaded", "skipped"}
    assert "soft inpainting" in api.get_scripts()["img2img"]


def test_options_are_set_and_come_back(api: webuiapi.WebUIApi) -> None:
    before = api.get_options()
    assert api.set_options({"CLIP_stop_at_last_layers": 2, "eta_noise_seed_delta": 31337, "samples_format": "webp"}) is None
    changed = api.get_options()
    assert (changed["CLIP_stop_at_last_layers"], changed["eta_noise_seed_delta"], changed["samples_format"]) == (2, 31337, "webp")
    assert api.txt2img(prompt="x", steps=1, width=64, height=64).image.format == "WEBP"
    assert api.set_options(before) is None
    assert api.get_options() == before


def test_what_the_client_asks_in_vain_is_told(api: webuiapi.WebUIApi) -> None:
    with pytest.raises(RuntimeError, match=r"501.*captioner"):
        api.interrogate(Image.new("RGB", (8, 8)))
    with pytest.raises(RuntimeError, match=r"422.*nobody"):
        api.txt2img(prompt="x", sampler_name="nobody")
    assert api.get_artists() == {"detail": "Not Found"}


def test_weights_are_let_go_of_and_loaded(api: webuiapi.WebUIApi) -> None:
    for route in ("unload-checkpoint", "reload-checkpoint"):
        assert api.custom_post(route, baseurl=True).json == {}


def test_scripts_and_hires_fix_of_the_client(api: webuiapi.WebUIApi) -> None:
    sheet = api.txt2img(
        prompt="a cat",
        steps=1,
        width=64,
        height=64,
        script_name="X/Y/Z Plot",
        script_args=[4, "1,2", [], 0, "", [], 0, "", [], True, False, False, False, False, False, False, 0, False],
    )
    assert sheet.info["index_of_first_image"] == 1
    hires = api.txt2img(prompt="a cat", steps=1, width=64, height=64, enable_hr=True, hr_scale=2, hr_upscaler=webuiapi.HiResUpscaler.Latent)
    assert len(hires.images) == 1
    uploaded = api.img2img(images=[Image.new("RGB", (64, 64))] * 2, prompt="x", steps=1, width=64, height=64, batch_size=2)
    assert len(uploaded.images) == 2


def test_every_failure_is_an_envelope_with_its_time(port: int) -> None:
    """The shape that clients show to their users; validation keeps its list."""
    auth, url = ("ann", "very-secret"), f"http://127.0.0.1:{port}/sdapi/v1"
    asked = [
        httpx.post(f"{url}/txt2img", json={"steps": "many"}, auth=auth),
        httpx.post(f"{url}/txt2img", json={"sampler_name": "nobody's"}, auth=auth),
        httpx.post(f"{url}/img2img", json={}, auth=auth),
        httpx.post(f"{url}/options", json={"sd_model_checkpoint": "none"}, auth=auth),
        httpx.post(f"{url}/options", json={"no such option": 1}, auth=auth),
        httpx.post(f"{url}/png-info", json={"image": "!"}, auth=auth),
        httpx.post(f"{url}/txt2img", content=b"{", headers={"Content-Type": "application/json"}, auth=auth),
        httpx.get(f"{url}/options"),
    ]
    assert [reply.status_code for reply in asked] == [422, 422, 404, 404, 422, 422, 422, 401]
    for reply in asked:
        assert set(reply.json()) == {"error", "detail", "body", "errors"}
        assert float(reply.headers["x-process-time"]) >= 0
    assert isinstance(asked[0].json()["detail"], list)
    assert isinstance(asked[1].json()["detail"], str)


def test_progress_interrupt_and_skip(api: webuiapi.WebUIApi) -> None:
    api.util_wait_for_ready(check_interval=0.1)
    assert api.get_progress()["progress"] == 0
    assert api.interrupt() == {}
    assert api.skip() is None


def test_a_wrong_password_is_told(port: int) -> None:
    client = webuiapi.WebUIApi(host="127.0.0.1", port=port, username="ann", password="wrong")
    with pytest.raises(RuntimeError, match="401"):
        client.txt2img(prompt="x")
    client.session.close()


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(port: int) -> None:
    login = httpx.BasicAuth("ann", "very-secret")._auth_header
    head = f"POST /sdapi/v1/png-info HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: {login}\r\nContent-Length: 99999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(head.encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_who_sends_a_body_that_is_too_large_reads_why_and_may_go_on(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY", 2**22)
    url = f"http://localhost:{port}/sdapi/v1/png-info"
    with httpx.Client(auth=("ann", "very-secret"), timeout=PATIENCE) as client:
        for body in (b" " * 2**25, iter([b" " * 2**20] * 32)):  # more than a socket's buffers hold
            reply = client.post(url, content=body)
            assert (reply.status_code, reply.json()["detail"]) == (413, "the request is larger than 4 MiB")
            assert client.post(url, json={}).json()["info"] == ""


def test_bodies_may_come_in_pieces(port: int) -> None:
    url = f"http://localhost:{port}/sdapi/v1/png-info"
    assert httpx.post(url, content=iter([b"{", b"}"]), auth=("ann", "very-secret")).json()["info"] == ""


def test_a_waiting_request_does_not_keep_the_server_from_stopping(settings: Settings, tmp_path: Path) -> None:
    service = open_service(replace(settings, data_dir=tmp_path, database=tmp_path / "easel.sqlite3"), FACTORY)  # its worker never starts
    made = FastAPI()
    made.include_router(sdapi_router(service, settings))
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        server = uvicorn.Server(uvicorn.Config(made, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/sdapi/v1/txt2img"
        waiting = pool.submit(httpx.post, url, json={"width": 64, "height": 64}, timeout=PATIENCE)
        until(service.jobs)
        server.should_exit = True
        thread.join(PATIENCE)
        stopped = not thread.is_alive()
        service.stop()
        assert waiting.exception(PATIENCE) or waiting.result().status_code >= 500
    assert stopped
