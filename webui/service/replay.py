"""Replay: a picture's recipe run again, and the verdict whether the same picture came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageChops

from webui.core.catalog import Catalog, ModelFile
from webui.core.errors import BadRequest, EngineError, MissingModel
from webui.core.image_metadata import RECIPE, open_image, read_infotext
from webui.core.local_loras import WithHash, local_names, renamed_tags
from webui.core.networks import extract_networks
from webui.core.recipe import Recipe, differences, pixel_hash, read_recipe, used_upscalers
from webui.core.request import GenerationRequest
from webui.core.upscalers import needs_model
from webui.service.job import Job

CLOSE = 0.999  # share of values that must be within one grey level for "nearly identical"
LOSSY = ("JPEG", "WEBP")
BLOCK = 16  # pixels: what JPEG and WebP compress as one, its colours at half size
LOSS = 24  # grey levels that a block's mean may move: 22 were seen at quality 10


@dataclass(frozen=True)
class Verdict:
    """kind: "identical", "nearly identical" (at most one grey level apart in 99.9 % of the values) or "different"; then why."""

    kind: str
    sentences: tuple[str, ...]


class Replays:
    """Recipes of input pictures, queued again and judged."""

    def __init__(
        self,
        catalog: Catalog,
        input_path: Callable[[str], Path],
        submit: Callable[..., str],
        job: Callable[[str], Job],
        with_hash: WithHash,
    ):
        """input_path: sha256 -> an input picture's file; submit, job: as of Service; with_hash: as of Models."""
        self._catalog = catalog
        self._input_path = input_path
        self._submit = submit
        self._job = job
        self._with_hash = with_hash

    def begin(self, input_hash: str, *, owner: str = "") -> str:
        """Queue the recipe of an input picture again; returns the job's id. Raises BadRequest, MissingModel, naming what is missing."""
        data = self._input_path(input_hash).read_bytes()
        names = local_names(read_infotext(data).text, self._catalog.find_lora, self._with_hash)
        return self._submit(to_run(_with_loras(recipe_of(data), names), self._catalog, self._input_path), owner=owner)

    def verdict(self, input_hash: str, job_id: str) -> Verdict | None:
        """How the picture of a replay's job compares with the input picture; None while it is being made.

        Raises MissingModel; EngineError where the job failed or was interrupted.
        """
        job = self._job(job_id)
        if not job.ended:
            return None
        if not job.pictures:
            raise EngineError(f"the replay made no picture: {job.error or job.status}")
        data = self._input_path(input_hash).read_bytes()
        return judge(recipe_of(data), open_image(data), *saved_recipe(job.pictures[0].path))


def recipe_of(data: bytes) -> Recipe:
    """The recipe in a picture file. Raises BadRequest where it carries none."""
    recipe = read_recipe(read_infotext(data).items.get(RECIPE, ""))
    if recipe is None:
        raise BadRequest("this picture carries no recipe of Easel's, only what its text says: send that to a tab and generate it there")
    return recipe


def _with_loras(recipe: Recipe, names: Mapping[str, str]) -> Recipe:
    """With LoRAs by the names that they have here; names: old -> new."""
    request = recipe.request
    hires = request.hires and replace(request.hires, prompt=renamed_tags(request.hires.prompt, names))
    return replace(recipe, request=replace(request, prompt=renamed_tags(request.prompt, names), hires=hires))


def to_run(recipe: Recipe, catalog: Catalog, input_path: Callable[[str], Path]) -> GenerationRequest:
    """The request again, with its files by the names that they have here. Raises MissingModel, BadRequest, naming what is missing."""
    request = recipe.request
    request = replace(request, batch_size=1, batch_count=1)
    checkpoint = _same(recipe, f"checkpoint {request.checkpoint}", request.checkpoint, catalog.find_checkpoint)
    request = replace(request, checkpoint=checkpoint.name, checkpoint_hash=checkpoint.short_hash)
    if request.vae not in ("None", "Automatic"):
        vae = _same(recipe, f"vae {request.vae}", request.vae, catalog.find_vae)
        request = replace(request, vae=vae.name, vae_hash=vae.short_hash)
    hires = request.hires
    if hires is not None and hires.checkpoint:
        again = _same(recipe, f"checkpoint {hires.checkpoint}", hires.checkpoint, catalog.find_checkpoint)
        request = replace(request, hires=replace(hires, checkpoint=again.name, checkpoint_hash=again.short_hash))
    if request.refiner is not None:
        again = _same(recipe, f"checkpoint {request.refiner.checkpoint}", request.refiner.checkpoint, catalog.find_checkpoint)
        request = replace(request, refiner=replace(request.refiner, checkpoint=again.name, checkpoint_hash=again.short_hash))
    prompts = (request.prompt, hires.prompt if hires else "")
    for use in (use for prompt in prompts for use in extract_networks(prompt)[1]):
        if use.kind in ("lora", "hypernet"):
            (catalog.find_lora if use.kind == "lora" else catalog.find_hypernetwork)(use.name)
    for upscaler in filter(needs_model, used_upscalers(request)):
        catalog.find_upscaler(upscaler)
    here = {file.stem for file in catalog.embeddings()}
    for role in recipe.files:
        kind, _, name = role.partition(" ")
        if kind == "embedding" and name not in here:
            raise MissingModel(f"the picture was made with embedding {name!r}, which is not here: put its file into embeddings/")
    if hires is not None and hires.image:
        _check_input(hires.image, "picture before hires fix", input_path)
    if request.init is not None:
        _check_input(request.init.image, "init image", input_path)
        if request.init.inpaint is not None:
            _check_input(request.init.inpaint.mask, "mask", input_path)
            if request.init.inpaint.latent_mask:
                _check_input(request.init.inpaint.latent_mask, "latent mask", input_path)
    request.validate()
    return request


def _same(recipe: Recipe, role: str, name: str, find: Callable[[str], ModelFile]) -> ModelFile:
    """The file with the recorded sha256 if it is here under any name, else the one with the name. Raises MissingModel."""
    digest = recipe.files.get(role, "")
    try:
        return find(digest[:10] or name)
    except MissingModel:
        pass
    try:
        return find(name)
    except MissingModel as error:
        raise MissingModel(f"{error}. It was made with {role}{f' (sha256 {digest})' if digest else ''}") from None


def _check_input(sha256: str, what: str, input_path: Callable[[str], Path]) -> None:
    try:
        input_path(sha256)
    except MissingModel:
        raise MissingModel(f"the picture was made from another one, whose {what} is not here: open that on the img2img tab first") from None


def judge(then: Recipe, before: Image.Image, now: Recipe, after: Image.Image) -> Verdict:
    """Compare a picture with its replay. before: the old picture as its file has it; after: the new one."""
    if pixel_hash(before) == pixel_hash(after):
        return Verdict("identical", ("every pixel is the same",))
    again = bool(then.pixels) and then.pixels == now.pixels
    if again and before.format in LOSSY and before.size == after.size and _alike(before, after):
        return Verdict("identical", ("every pixel is as it was recorded; this file was compressed with loss",))
    reasons = [*_edited(again, then, before), *differences(then, now)]
    if before.size != after.size:
        return Verdict("different", (f"the sizes differ: {before.size} and {after.size}", *reasons))
    close, most = _closeness(before, after)
    measured = f"{close:.2%} of the values are at most one grey level apart; the largest difference is {most}"
    if before.format in LOSSY:
        reasons.append("the old file was compressed with loss, so this comparison is with what is left of it")
    if not reasons:
        reasons.append("nothing that was recorded differs: the arithmetic of this machine does, or the recipe was changed")
    return Verdict("nearly identical" if close >= CLOSE and not again else "different", (measured, *reasons))


def _edited(again: bool, then: Recipe, before: Image.Image) -> list[str]:
    """That the old file's pixels are no longer those that were recorded, where that is known."""
    if again:
        return ["the replay is the recorded picture to the last pixel: this file was changed after it was saved"]
    changed = then.pixels and before.format not in LOSSY and pixel_hash(before) != then.pixels
    return ["this file was changed after it was saved"] if changed else []


def _alike(before: Image.Image, after: Image.Image) -> bool:
    """Whether compression alone can have made the difference: it keeps the mean of every block of 16 x 16 pixels."""
    blocks = ImageChops.difference(*(picture.convert("RGB").reduce(BLOCK) for picture in (before, after)))
    return max(blocks.tobytes()) <= LOSS


def _closeness(before: Image.Image, after: Image.Image) -> tuple[float, int]:
    """(share of values at most one grey level apart, largest difference)."""
    counts = [0] * 256
    for band in ImageChops.difference(before.convert("RGB"), after.convert("RGB")).split():
        counts = [old + new for old, new in zip(counts, band.histogram(), strict=True)]
    return sum(counts[:2]) / sum(counts), max(level for level, count in enumerate(counts) if count)


def saved_recipe(path: Path) -> tuple[Recipe, Image.Image]:
    """Recipe and pixels of a picture that this program has just saved."""
    data = path.read_bytes()
    return recipe_of(data), open_image(data)
