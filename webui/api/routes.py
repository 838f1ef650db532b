"""The routes of /sdapi/v1: JSON in and out as A1111's clients speak it, over what Service offers."""

import base64
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from webui.api import answers, convert, reading, scripts
from webui.api import schemas as wire
from webui.api.envelope import EnvelopeRoute
from webui.api.extras import add_extras_routes, add_upscaler_lists
from webui.api.failure import failure
from webui.api.fetching import PictureFetcher
from webui.api.flags import told_flags
from webui.api.known_options import FIXED, IDLE, PREFERRED, checked_options
from webui.api.lenient import check_plain
from webui.api.roles import is_guest
from webui.api.system import Switch, add_absent_routes, add_switch_routes, add_weights_routes
from webui.api.training import add_training_routes
from webui.api.waiting import Patience
from webui.core.choices import LATENT_UPSCALERS, SAMPLERS, SCHEDULE_TYPES
from webui.core.errors import BadRequest, Busy, MissingModel, NotAllowed
from webui.core.job_request import JobRequest, shown_request
from webui.core.local_loras import with_local_loras
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.core.upscalers import upscaler_name
from webui.service.service import Job, SavedPicture, Service


def sdapi_router(service: Service, settings: Settings, switch: Switch | None = None) -> APIRouter:
    """All routes of /sdapi/v1; mount it without a prefix. switch: ends the server, for --api-server-stop."""
    router = APIRouter(prefix="/sdapi/v1", route_class=EnvelopeRoute, tags=["sdapi"], strict_content_type=False)
    patience = Patience()
    fetcher = PictureFetcher() if settings.api_enable_requests else None
    _add_generation(router, service, patience, fetcher)
    _add_running(router, service)
    _add_options(router, service, settings)
    _add_lists(router, service)
    add_weights_routes(router, service, patience)
    add_training_routes(router, service, patience)
    add_absent_routes(router)
    if settings.api_server_stop:
        add_switch_routes(router, switch or Switch())
    return router


def _add_generation(router: APIRouter, service: Service, patience: Patience, fetcher: PictureFetcher | None) -> None:
    @router.post("/txt2img", response_model=wire.Pictures)
    async def txt2img(body: wire.Txt2Img, request: Request) -> Response:
        """Pictures from a prompt; answers when they are done."""
        _refuse_to_guests(request, body)
        return await patience.run(generate, service, body, fetcher)

    @router.post("/img2img", response_model=wire.Pictures)
    async def img2img(body: wire.Img2Img, request: Request) -> Response:
        """Pictures from a picture, wholly or where a mask is white; answers when they are done."""
        _refuse_to_guests(request, body)
        return await patience.run(generate, service, body, fetcher)

    @router.post("/png-info")
    def png_info(body: wire.PngInfo) -> wire.PngInfoAnswer:
        """The infotext that a picture carries."""
        return wire.PngInfoAnswer(**reading.png_info((fetcher.filled(body) if fetcher else body).image))

    add_extras_routes(router, service, patience)


def _refuse_to_guests(request: Request, body: wire.Generation) -> None:
    if is_guest(request) and body.override_settings and not body.override_settings_restore_afterwards:
        raise NotAllowed("guests change no preferences; leave override_settings_restore_afterwards out")


def _upscalers(service: Service) -> list[str]:
    return [upscaler_name(file) for file in service.catalog.upscalers()]


def generate(service: Service, body: wire.Generation, fetcher: PictureFetcher | None = None) -> Response:
    """Submit the jobs of `body` one after another, wait for each, and answer with all their pictures. Blocks for as long."""
    body = fetcher.filled(body) if fetcher else body
    text, renamed = with_local_loras(body.infotext or "", service.catalog.find_lora, service.models.with_hash)
    body = body.model_copy(update={"infotext": text}) if renamed else body
    requests = convert.to_requests(body, service.add_input, service.catalog, service.preferences())
    script = scripts.to_script(body, requests, _upscalers(service) if body.script_name else ())
    first = service.complete(requests[0])
    several: list[JobRequest] = [replace(first.single(i), init=request.init) for i, request in enumerate(requests)]
    asked: list[JobRequest] = [script] if script else several if len(requests) > 1 else [first]
    if not body.override_settings_restore_afterwards:
        known = {key: value for key, value in body.override_settings.items() if key in PREFERRED and value is not None}
        service.set_preferences(known)
    save = body.save_images and convert.overridden(body, service.preferences(), "samples_save")
    jobs: list[Job] = []
    for request in asked:
        task = service.tasks.new_job(body.force_task_id) if body.force_task_id and not jobs else None
        jobs.append(service.wait(service.submit(request, job_id=task, save=save)))
        if jobs[-1].status == "failed":
            raise failure(jobs[-1])
        if jobs[-1].status == "interrupted":
            break
        if not jobs[-1].ended:
            raise Busy("Easel is being stopped; the job goes on after the next start")
    jobs[0] = replace(jobs[0], notices=(*renamed, *jobs[0].notices))
    made = shown_request(jobs[0].request) if script else None
    grid = None if script else _grid(service, body, jobs)
    return JSONResponse(answers.to_answer(body, made or first, jobs, service.preferences(), grid))


def _grid(service: Service, body: wire.Generation, jobs: list[Job]) -> SavedPicture | None:
    """The grid of the pictures that is sent before them, and kept, where preferences or the request's own options say so."""
    wish = partial(convert.overridden, body, service.preferences())
    pictures = [picture for job in jobs for picture in job.pictures]
    several = len(pictures) > 1 or (pictures and not wish("grid_only_if_multiple"))
    if not (body.save_images and several and (wish("return_grid") or wish("grid_save"))):
        return None
    grid = service.grids.make(jobs[0].id, pictures, save=wish("grid_save"))
    return grid if wish("return_grid") else None


def _add_running(router: APIRouter, service: Service) -> None:
    @router.get("/progress")
    def progress(request: Request, skip_current_image: bool = False) -> wire.ProgressAnswer:
        """How far the running job is; zeros while nothing runs."""
        jobs = service.jobs(active_only=True)
        running = [job for job in jobs if job.status in ("running", "saving")] or [job for job in jobs if job.status == "queued"]
        if not running:
            return wire.ProgressAnswer()
        preview = None if skip_current_image or is_guest(request) else service.preview(running[0].id)
        return _progress(running[0], preview)

    @router.post("/interrupt")
    def interrupt() -> dict[str, Any]:
        """Stop the running job after its current step; it answers with the pictures that are done."""
        service.interrupt()
        return {}

    @router.post("/skip")
    def skip() -> None:
        """Drop the running batch and go on with the next."""
        service.skip()


def _progress(job: Job, preview: bytes | None) -> wire.ProgressAnswer:
    done = job.progress
    asked = shown_request(job.request) or GenerationRequest(steps=1)  # others are done in one go
    state = wire.State(
        skipped=job.skips_asked > 0,
        interrupted=job.interrupt_asked,
        job=_job_text(job),
        job_count=done.batches if done else asked.batch_count,
        job_timestamp=datetime.fromtimestamp(job.created).strftime("%Y%m%d%H%M%S"),
        job_no=done.batch - 1 if done else 0,
        sampling_step=done.step if done else 0,
        sampling_steps=done.steps if done else asked.steps,
    )
    return wire.ProgressAnswer(
        progress=min(max(job.fraction, 0.01), 1.0),  # never 0 while something runs: clients take 0 for idle
        eta_relative=max(job.eta or 0.0, 0.0),
        state=state,
        current_image=base64.b64encode(preview).decode("ascii") if preview else None,
        textinfo=job.text or None,
    )


def _job_text(job: Job) -> str:
    if job.progress is None:
        return job.status
    return f"Batch {job.progress.batch} out of {job.progress.batches}"


def _add_options(router: APIRouter, service: Service, settings: Settings) -> None:
    @router.get("/options")
    def get_options() -> dict[str, Any]:
        """Every preference, the checkpoint by its title; and A1111's options that clients read, though they change nothing here."""
        preferences = service.preferences()
        fetches = {"api_enable_requests": settings.api_enable_requests}
        return {**IDLE, **FIXED, **fetches, **preferences, "sd_model_checkpoint": _title(service, preferences["sd_model_checkpoint"])}

    @router.post("/options")
    def set_options(options: dict[str, Any]) -> None:
        """Set any part of the preferences; a checkpoint may be given by title, file name, model name or hash."""
        for key, value in options.items():
            try:
                check_plain(key[:100], [key, value])
            except ValueError as error:
                raise BadRequest(str(error)) from None
        service.set_preferences(checked_options({key: value for key, value in options.items() if value is not None}))

    @router.get("/cmd-flags")
    def cmd_flags() -> dict[str, Any]:
        """The flags that Easel was started with; passwords are never shown."""
        return told_flags(settings)

    @router.get("/memory")
    def memory() -> wire.Memory:
        """Main and device memory, in bytes."""
        return wire.Memory(**service.status.memory())


def _title(service: Service, checkpoint: str) -> str:
    """The title of the preferred checkpoint; what the preference says where that file is gone."""
    try:
        return service.catalog.find_checkpoint(checkpoint).title
    except MissingModel:
        return checkpoint


def _chosen_family(service: Service) -> str:
    """The family of the preferred checkpoint, as its folder of configs is called; "" where it is not known."""
    try:
        family = service.catalog.find_checkpoint(service.preferences()["sd_model_checkpoint"]).family
    except MissingModel:
        return ""
    return family.config if family else ""


def _add_lists(router: APIRouter, service: Service) -> None:
    def refresh() -> None:
        """Look for model files again."""
        service.refresh_models()

    @router.get("/samplers")
    def samplers() -> list[wire.Sampler]:
        """The samplers, the order being the one of the page."""
        return [
            wire.Sampler(name=one.name, aliases=list(one.aliases), options={"scheduler": SCHEDULE_TYPES[one.default_schedule].name})
            for one in SAMPLERS.values()
        ]

    @router.get("/schedulers")
    def schedulers() -> list[wire.Scheduler]:
        """The schedule types."""
        return [
            wire.Scheduler(
                name=one.name,
                label=one.label,
                aliases=list(one.aliases) or None,
                default_rho=one.default_rho,
                need_inner_model=one.on_levels,
            )
            for one in SCHEDULE_TYPES.values()
        ]

    @router.get("/prompt-styles")
    def prompt_styles() -> list[wire.PromptStyle]:
        """Pieces of prompt by name, of the files styles.csv and styles/*.csv; requests name them in `styles`."""
        return [wire.PromptStyle(**vars(style)) for style in service.phrases.styles()]

    @router.get("/scripts")
    def script_titles() -> wire.Scripts:
        """The scripts of each tab, by their titles in lower case."""
        return scripts.script_lists()

    @router.get("/script-info")
    def script_info() -> list[wire.ScriptInfo]:
        """The scripts with their arguments, in the order of `script_args`."""
        return scripts.script_infos(_upscalers(service))

    add_upscaler_lists(router, service)

    @router.get("/latent-upscale-modes")
    def latent_upscale_modes() -> list[wire.LatentUpscaler]:
        """What makes latents larger, for hires fix."""
        return [wire.LatentUpscaler(name=name) for name in LATENT_UPSCALERS]

    @router.get("/sd-models")
    def checkpoints() -> list[wire.Checkpoint]:
        """The checkpoints in the model folders."""
        return [
            wire.Checkpoint(
                title=file.title,
                model_name=file.model_name,
                hash=file.short_hash or None,
                sha256=file.sha256,
                filename=str(file.path),
                config=None,
            )
            for file in service.catalog.checkpoints()
        ]

    @router.get("/sd-vae")
    def vaes() -> list[wire.Vae]:
        """The VAEs in the VAE folders."""
        return [wire.Vae(model_name=file.name, filename=str(file.path)) for file in service.catalog.vaes()]

    @router.get("/loras")
    def loras() -> list[wire.Lora]:
        """The LoRAs in the LoRA folders; alias: the name given in training, else the file's."""
        return [
            wire.Lora(name=file.stem, alias=told.get("alias") or file.stem, path=str(file.path), metadata=dict(told.get("rows", ())))
            for file, told in service.models.files("lora")
        ]

    @router.get("/embeddings")
    def embeddings() -> wire.Embeddings:
        """The embeddings, by whether they fit the chosen checkpoint."""
        return reading.embeddings(service.models.files("embedding"), _chosen_family(service))

    @router.get("/hypernetworks")
    def hypernetworks() -> list[wire.Hypernetwork]:
        """The hypernetworks in the model folder."""
        return [wire.Hypernetwork(name=file.stem, path=str(file.path)) for file, _ in service.models.files("hypernetwork")]

    for name in ("checkpoints", "vae", "loras", "embeddings"):
        router.add_api_route(f"/refresh-{name}", refresh, methods=["POST"])
