"""Composition root: makes each object once and hands it down. The only file that knows everybody.

Two halves, in two processes: `serve` in the server's, which never imports torch; `make_handlers` in each worker's.
"""

import importlib.util
import logging
import os
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from webui import __version__
from webui.api.docs import add_docs_route
from webui.api.envelope import TrailingSlash, WrongMethod
from webui.api.extra_networks import extra_networks_router
from webui.api.gallery import pictures_router
from webui.api.guard import Guard
from webui.api.internal import internal_router
from webui.api.mcp_http import mcp_route
from webui.api.page_paths import ClosedDoors
from webui.api.routes import sdapi_router
from webui.api.system import Switch
from webui.api.tasks import tasks_router
from webui.api.v1 import v1_router
from webui.core.catalog import Catalog
from webui.core.errors import EaselError, EngineError, MissingModel, StorageError
from webui.core.event import Control, Event, Picture
from webui.core.extras import ExtrasRequest
from webui.core.logs import start_log
from webui.core.model_listing import model_at
from webui.core.model_orders import MergeRecipe, SaveOrder, WeightsOrder
from webui.core.preferences import PREFERENCES
from webui.core.recipe import used_files
from webui.core.request import GenerationRequest
from webui.core.scripts.request import ScriptRequest
from webui.core.scripts.running import run_script
from webui.core.settings import Settings
from webui.core.training_request import TrainingRequest
from webui.core.xray import XrayRequest
from webui.service.completion import complete_weights
from webui.service.database import DatabaseReader
from webui.service.hashing import HashReader
from webui.service.inputs import InputStore, inputs_folder
from webui.service.model_rows import ModelIndexRows
from webui.service.preferences import PreferenceReader
from webui.service.service import Service, open_service
from webui.service.worker import MemoryQuestion

if TYPE_CHECKING:
    from webui.engine.device import Device
    from webui.engine.model import DiffusionModel
    from webui.engine.model_cache import ModelCache
    from webui.engine.networks import EmbeddingStore, NetworkStore

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # of torch, on Linux: memory in pages of 2 MB, which makes loading a third faster
GIB = 1 << 30
GRACE = 3  # seconds that open requests get when the server stops
log = logging.getLogger("easel")


def serve(settings: Settings) -> bool:
    """Run Easel until it is told to stop; whether it shall start again. The workers start first: they import torch while this process
    imports gradio."""
    start_log(settings.loglevel, "%(levelname)s %(name)s: %(message)s")
    listener = _listen(settings)
    try:
        service = open_service(settings, "webui.build:make_handlers")
        if settings.checkpoint:
            service.catalog.find_checkpoint(settings.checkpoint)
    except (EngineError, MissingModel, StorageError) as error:
        raise SystemExit(str(error)) from None
    service.start()
    try:
        switch = Switch()
        guard = Guard(make_app(settings, service, switch), settings)
        config = uvicorn.Config(
            guard,
            log_level="warning",
            log_config=None,  # as all else is logged
            root_path=f"/{settings.subpath}" if settings.subpath else "",
            ssl_keyfile=settings.tls_keyfile,
            ssl_certfile=settings.tls_certfile,
            timeout_graceful_shutdown=GRACE,
            ws="websockets-sansio",
        )
        server = _Server(config, settings, guard, service.release)
        switch.stop = server.end
        server.run(sockets=[listener])
    finally:
        service.stop()
    return switch.restart


def make_app(settings: Settings, service: Service, switch: Switch) -> FastAPI:
    """The routes, and below them the page. switch: ends the server."""
    app = FastAPI(title="Easel", version=__version__, docs_url=None, redoc_url=None)  # those pages load scripts from other hosts
    app.include_router(sdapi_router(service, settings, switch))
    app.include_router(v1_router(service, settings))
    app.include_router(tasks_router(service, settings))
    app.include_router(extra_networks_router(service))
    add_docs_route(app.router)
    app.include_router(internal_router(service))
    app.include_router(pictures_router(service))
    app.router.routes.append(mcp_route(app))

    @app.get("/healthz", include_in_schema=False)
    def healthz() -> dict[str, str]:
        return {"worker": service.worker_state()}

    app.router.routes += [WrongMethod(app.routes), TrailingSlash(app.routes)]
    if settings.nowebui:
        return app
    os.environ["GRADIO_TEMP_DIR"] = str(settings.temp_dir)
    from webui.ui.page import mount_page  # three seconds: not for --nowebui, and only after the workers have started

    app.router.routes.append(ClosedDoors())
    mount_page(app, service, settings)
    return app


def make_handlers(settings: Settings) -> dict[type, Callable[..., Iterator[Any]]]:
    """What a worker process can do: request type -> function(request, control) -> events. Loads the first checkpoint at once."""
    os.environ.setdefault(HUGE_PAGES, "1")
    from webui.engine.aesthetic import make_guide
    from webui.engine.conditioning import ConditioningCache
    from webui.engine.converted import FOLDER as CONVERTED
    from webui.engine.device import choose_device, share_cores
    from webui.engine.extras import run_extras
    from webui.engine.generate import generate
    from webui.engine.load_progress import LoadProgress
    from webui.engine.merge import merge
    from webui.engine.model_cache import ModelCache
    from webui.engine.placement import placement_rule
    from webui.engine.provenance import environment, recorded
    from webui.engine.saving import save
    from webui.engine.study import NO_STUDY, Study
    from webui.engine.upscalers import UpscalerStore
    from webui.engine.upscaling import make_enlarge
    from webui.engine.weights import keep_weights
    from webui.engine.xray.run import run_xray
    from webui.training.aesthetic import make_file
    from webui.training.jobs import train_file

    os.environ[CONVERTED] = str(settings.data_dir / "cache" / "converted")
    device = choose_device(settings.use_cpu, settings.device_id, settings.no_half, settings.no_half_vae, settings.worker)
    share_cores(device, settings.workers or 1)
    index = DatabaseReader(settings.database)  # what the server's process has listed and hashed, so that no folder is listed here
    catalog = Catalog(settings, HashReader(index), ModelIndexRows(index))
    progress = LoadProgress()
    room = _room(settings, device, PreferenceReader(index))
    (on_device, aside), where = room(), placement_rule(device.torch_device, settings.medvram, settings.lowvram)
    cache = ModelCache(on_device, where, progress.tell, max_aside=aside)
    load = _loader(catalog, cache, device, room)
    networks, embeddings = _networks(catalog)
    inputs = InputStore(inputs_folder(settings.data_dir))
    upscalers = UpscalerStore(lambda name: catalog.find_upscaler(name).path, device)
    conditionings = ConditioningCache()

    def load_alone(checkpoint: str, text_encoder: str = "") -> "DiffusionModel":
        return load(GenerationRequest(checkpoint=checkpoint, vae="None", text_encoder=text_encoder))

    try:
        first = WeightsOrder(action="reload", checkpoint=catalog.default_checkpoint().name)
        first = complete_weights(first, catalog, _preferred(PreferenceReader(index)))
        load_alone(first.checkpoint, first.text_encoder)
    except EaselError as error:  # a damaged first checkpoint must not keep the others from being used
        log.warning("%s", error)
    around = environment(device, "xformers" if _with_xformers(device) else "torch")

    def facts(picture: Picture) -> dict[str, Any]:
        return {"files": used_files(picture.request, picture.infotext, catalog), "environment": around}

    def make(request: GenerationRequest, control: Control, study: Study = NO_STUDY) -> Iterator[Event]:
        events = generate(
            request,
            control,
            load=load,
            open_input=inputs.open,
            networks=networks.of,
            embeddings=embeddings.now,
            guide=lambda model, asked: make_guide(model, asked, catalog.find_aesthetic(asked.embedding).path, settings.clip_dir),
            enlarge=make_enlarge(upscalers.load),
            conditionings=conditionings,
            free_caches=cache.keep_newest,
            follow=progress.follow,
            study=study,
        )
        return recorded(cache.checked(events), facts)

    folder = settings.checkpoint_dirs[0]
    finders = {"embedding": catalog.find_embedding, "hypernetwork": catalog.find_hypernetwork, "lora": catalog.find_lora}
    return {
        GenerationRequest: make,
        ScriptRequest: lambda request, control: run_script(request, control, make=make, add_input=inputs.add),
        XrayRequest: lambda request, control: run_xray(
            request,
            control,
            make=make,
            load=lambda asked: progress.follow(lambda: load(asked), f"loading {asked.checkpoint}"),
            open_input=inputs.open,
        ),
        MergeRecipe: lambda recipe, control: merge(
            recipe, control, find_checkpoint=catalog.find_checkpoint, find_vae=catalog.find_vae, folder=folder
        ),
        ExtrasRequest: lambda request, control: run_extras(
            request, control, read_input=lambda sha256: inputs.path(sha256).read_bytes(), load=upscalers.load
        ),
        SaveOrder: lambda order, control: save(order, control, load=load, folder=folder),
        TrainingRequest: lambda request, control: (
            make_file(
                request,
                control,
                find=lambda kind, name: catalog.find_aesthetic(name).path,
                target=settings.aesthetic_dirs[0],
                clip_folder=settings.clip_dir,
                data_dir=settings.data_dir,
            )
            if request.kind == "aesthetic"
            else train_file(
                request,
                control,
                load=lambda checkpoint: load_alone(checkpoint, request.text_encoder),
                find=lambda kind, name: finders[kind](name).path,
                folders={
                    "embedding": settings.embeddings_dirs[0],
                    "hypernetwork": settings.hypernetwork_dirs[0],
                    "lora": settings.lora_dirs[0],
                },
                data_dir=settings.data_dir,
            )
        ),
        WeightsOrder: lambda order, control: keep_weights(order, forget=cache.forget, load=load_alone),
        MemoryQuestion: lambda question, control: iter([device.told()]),
    }


def _room(settings: Settings, device: "Device", preferences: PreferenceReader) -> Callable[[], tuple[int, int]]:
    """Bytes of models that one worker keeps where it works, and beside its card, as preferred at the moment; else half of its share of the
    memory that they live in, and a quarter of main memory."""
    memory = device.memory()
    workers = settings.workers or 1
    cards = workers if settings.ray else len(set(settings.device_ids))  # Ray gives each worker a card of its own, and shows it no other
    total = memory["cuda"].get("system", memory["ram"])["total"] // device.sharers(workers, cards)
    on_card = device.torch_device.type == "cuda"

    def room() -> tuple[int, int]:
        preferred = int(_preferred(preferences)["model_cache_gb"]) * GIB
        if on_card:
            return total // 2, preferred or memory["ram"]["total"] // workers // 4
        return preferred or total // 2, 0

    return room


def _preferred(preferences: PreferenceReader) -> dict[str, Any]:
    """All preferences; their defaults for a worker on another machine than the database."""
    try:
        return preferences.all()
    except StorageError:
        return {preference.name: preference.default for preference in PREFERENCES}


def _networks(catalog: Catalog) -> "tuple[NetworkStore, EmbeddingStore]":
    """What prompts may call: LoRAs and hypernetworks by their tags, embeddings by their names."""
    from webui.engine.networks import EmbeddingStore, NetworkStore

    find = {"lora": catalog.find_lora, "hypernet": catalog.find_hypernetwork}

    def hash_of(path: Path) -> str:
        model = model_at(path.name, path)
        return catalog.lora_hash(model) if model else ""

    return NetworkStore(lambda kind, name: find[kind](name).path, hash_of), EmbeddingStore(
        catalog.embeddings, lambda file: catalog.with_hash(file).sha256 or ""
    )


def _loader(
    catalog: Catalog, cache: "ModelCache", device: "Device", room: Callable[[], tuple[int, int]]
) -> "Callable[[GenerationRequest | SaveOrder], DiffusionModel]":
    """request -> the model with the request's checkpoint and VAE."""
    with_xformers = _with_xformers(device)

    def load(request: GenerationRequest | SaveOrder) -> "DiffusionModel":
        try:
            checkpoint = catalog.find_checkpoint(request.checkpoint)
        except MissingModel:  # a file that came after this process had looked
            catalog.refresh()
            checkpoint = catalog.find_checkpoint(request.checkpoint)
        vae = None if request.vae == "None" else catalog.find_vae(request.vae).path
        cache.resize(*room())
        texts = catalog.text_encoders.paths(request.text_encoder)
        model = cache.load(checkpoint.path, vae, device.dtype, device.torch_device, vae_dtype=device.vae_dtype, text_paths=texts)
        if with_xformers:
            model.unet.enable_xformers_memory_efficient_attention()
        return model.predicting(request.prediction_type)

    return load


def _with_xformers(device: "Device") -> bool:
    return device.torch_device.type == "cuda" and importlib.util.find_spec("xformers") is not None


class _Server(uvicorn.Server):
    """uvicorn, telling where the page is once it answers, and letting waiting requests go before it ends."""

    def __init__(self, config: uvicorn.Config, settings: Settings, guard: Guard, release: Callable[[], None]):
        super().__init__(config)
        self._settings = settings
        self._guard = guard
        self._release = release

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        url = _own_url(self._settings)
        print(f"Easel answers at {url}", flush=True)  # noqa: T201
        if self._settings.autolaunch:
            webbrowser.open(url)
        if self._settings.share:
            threading.Thread(target=_share, args=(self._settings, self._guard), daemon=True).start()

    def end(self) -> None:
        """End once the open requests are answered."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._release()
        await super().shutdown(sockets)


def _listen(settings: Settings) -> socket.socket:
    """A socket bound to the settings' address, before anything slow begins; ends the program with a sentence where it is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows: there SO_REUSEADDR would let two programs have one port
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise SystemExit(f"cannot serve on {settings.host}:{settings.port} ({error.strerror}); choose another with --port") from None
    return listener


def _own_url(settings: Settings) -> str:
    scheme = "https" if settings.tls_certfile else "http"
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    path = f"/{settings.subpath}" if settings.subpath else ""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}{path}"


def _share(settings: Settings, guard: Guard) -> None:
    """Open Gradio's public tunnel to this server and tell its address; the one thing in Easel that asks the network."""
    import secrets

    from gradio.networking import setup_tunnel

    try:
        url = setup_tunnel("127.0.0.1", settings.port, secrets.token_urlsafe(32), None, None)
    except Exception as error:
        log.error("--share: no public link could be made (%s); the page stays at %s", error, _own_url(settings))
        return
    guard.allow_host(url)
    print(f"Easel is public at {url}", flush=True)  # noqa: T201
