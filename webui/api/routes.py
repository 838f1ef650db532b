"""The routes of /sdapi/v1: JSON in and out as A1111's clients speak it, over what Service offers."""

import base64
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from webui.api import convert, scripts
from webui.api import schemas as wire
from webui.api.envelope import EnvelopeRoute
from webui.core import errors
from webui.core.choices import LATENT_UPSCALERS, PIXEL_UPSCALERS, SAMPLERS, SCHEDULE_TYPES
from webui.core.errors import BadRequest, Busy, EaselError, EngineError, MissingModel
from webui.core.job_request import JobRequest, shown_request
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.service.service import Job, Service

WAITING = 256  # generations that may wait for their turn at once, each in a thread of its own
SECRET = ("gradio_auth", "api_auth")


def sdapi_router(service: Service, settings: Settings) -> APIRouter:
    """All routes of /sdapi/v1; mount it without a prefix."""
    router = APIRouter(prefix="/sdapi/v1", route_class=EnvelopeRoute, tags=["sdapi"], strict_content_type=False)
    _add_generation(router, service)
    _add_running(router, service)
    _add_options(router, service, settings)
    _add_lists(router, service)
    return router


def _add_generation(router: APIRouter, service: Service) -> None:
    waiting = CapacityLimiter(WAITING)
    in_hand = 0

    async def answer(body: wire.Generation) -> Response:
        nonlocal in_hand
        if in_hand >= WAITING:  # whoever came now would wait unseen, with all that they sent
            raise Busy(f"{WAITING} requests wait for their pictures already; try again when some are done")
        in_hand += 1
        try:
            return await to_thread.run_sync(generate, service, body, limiter=waiting, abandon_on_cancel=True)  # so that the server can stop
        finally:
            in_hand -= 1

    @router.post("/txt2img", response_model=wire.Pictures)
    async def txt2img(body: wire.Txt2Img) -> Response:
        """Pictures from a prompt; answers when they are done."""
        return await answer(body)

    @router.post("/img2img", response_model=wire.Pictures)
    async def img2img(body: wire.Img2Img) -> Response:
        """Pictures from a picture, wholly or where a mask is white; answers when they are done."""
        return await answer(body)

    @router.post("/png-info")
    def png_info(body: wire.PngInfo) -> wire.PngInfoAnswer:
        """The infotext that a picture carries."""
        return wire.PngInfoAnswer(**convert.png_info(body.image))


def generate(service: Service, body: wire.Generation) -> Response:
    """Submit the jobs of `body` one after another, wait for each, and answer with all their pictures. Blocks for as long."""
    requests = convert.to_requests(body, service.add_input, service.catalog, service.preferences())
    script = scripts.to_script(body, requests)
    first = service.complete(requests[0])
    several: list[JobRequest] = [replace(first.single(i), init=request.init) for i, request in enumerate(requests)]
    asked: list[JobRequest] = [script] if script else several if len(requests) > 1 else [first]
    if not body.override_settings_restore_afterwards:
        known = service.preferences()
        service.set_preferences({key: value for key, value in body.override_settings.items() if key in known and value is not None})
    jobs: list[Job] = []
    for request in asked:
        task = body.force_task_id if not jobs else None
        jobs.append(service.wait(service.submit(request, job_id=task or None, save=body.save_images)))
        if jobs[-1].status == "failed":
            raise _failure(jobs[-1])
        if jobs[-1].status == "interrupted":
            break
        if not jobs[-1].ended:
            raise Busy("Easel is being stopped; the job goes on after the next start")
    made = shown_request(jobs[0].request) if script else None
    return JSONResponse(convert.to_answer(body, made or first, jobs, service.preferences()["jpeg_quality"]))


def _failure(job: Job) -> EaselError:
    """The error with which a job failed, to be answered with its own name and HTTP status."""
    kind = getattr(errors, job.error_name, EngineError)
    error: EaselError = kind(job.error or "the picture could not be made")
    error.status = job.error_status if 400 <= job.error_status < 600 else 500
    return error


def _add_running(router: APIRouter, service: Service) -> None:
    @router.get("/progress")
    def progress(skip_current_image: bool = False) -> wire.ProgressAnswer:
        """How far the running job is; zeros while nothing runs."""
        jobs = service.jobs(active_only=True)
        running = [job for job in jobs if job.status in ("running", "saving")] or [job for job in jobs if job.status == "queued"]
        if not running:
            return wire.ProgressAnswer()
        preview = None if skip_current_image else service.preview(running[0].id)
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
        """Every preference; the checkpoint by its title."""
        preferences = service.preferences()
        return {**preferences, "sd_model_checkpoint": _title(service, preferences["sd_model_checkpoint"])}

    @router.post("/options")
    def set_options(options: dict[str, Any]) -> None:
        """Set any part of the preferences; a checkpoint may be given by title, file name, model name or hash."""
        for key, value in options.items():
            try:
                wire.check_plain(key[:100], [key, value])
            except ValueError as error:
                raise BadRequest(str(error)) from None
        service.set_preferences({key: value for key, value in options.items() if value is not None})

    @router.get("/cmd-flags")
    def cmd_flags() -> dict[str, Any]:
        """The flags that Easel was started with; passwords are never shown."""
        flags = {field.name: _plain(getattr(settings, field.name)) for field in fields(settings) if field.name not in SECRET}
        singular = {f"{kind}_dir": flags[f"{name}_dirs"][-1] for kind, name in FOLDERS.items()}
        return {**flags, **singular, "ckpt": settings.checkpoint, **{name: "***" if getattr(settings, name) else None for name in SECRET}}

    @router.get("/memory")
    def memory() -> wire.Memory:
        """Main and device memory, in bytes."""
        return wire.Memory(**service.memory())


FOLDERS = {"ckpt": "checkpoint", "vae": "vae", "lora": "lora", "embeddings": "embeddings", "hypernetwork": "hypernetwork"}


def _title(service: Service, checkpoint: str) -> str:
    """The title of the preferred checkpoint; what the preference says where that file is gone."""
    try:
        return service.catalog.find_checkpoint(checkpoint).title
    except MissingModel:
        return checkpoint


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


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
        return scripts.script_infos()

    @router.get("/upscalers")
    def upscalers() -> list[wire.Upscaler]:
        """What makes pictures larger."""
        return [wire.Upscaler(name=name) for name in PIXEL_UPSCALERS]

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
        return convert.embeddings(service.models.files("embedding"), _chosen_family(service))

    @router.get("/hypernetworks")
    def hypernetworks() -> list[wire.Hypernetwork]:
        """The hypernetworks in the model folder."""
        return [wire.Hypernetwork(name=file.stem, path=str(file.path)) for file, _ in service.models.files("hypernetwork")]

    for name in ("checkpoints", "vae", "loras", "embeddings"):
        router.add_api_route(f"/refresh-{name}", refresh, methods=["POST"])
