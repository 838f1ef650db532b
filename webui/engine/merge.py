"""The checkpoint merger: weighted sum, add difference, or one checkpoint in another number type; with a VAE baked in.

It works a few rows of a tensor at a time, straight from the files to the new file: whatever the checkpoints' size, no
more than a few MB of numbers are in memory (.ckpt files, which the door can only read whole, excepted).
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import regex
import torch
from torch import Tensor

from webui.core.catalog import ModelFile, sha256_of
from webui.core.errors import BadModelFile, BadRequest, EaselError
from webui.core.event import Control, Event, Finished, Loading
from webui.core.family import Family
from webui.core.model_orders import MergeRecipe
from webui.core.safetensors_header import open_model_file, read_exactly
from webui.engine.merge_sources import MergeSource, open_checkpoint, open_vae
from webui.engine.saving import Interrupted, in_percents
from webui.engine.tensor_writer import PRECISIONS, Outgoing, new_place, write_tensors

PLAIN_CHANNELS, INPAINTING_CHANNELS = 4, 9  # that a UNet takes: latents; latents, mask and the masked picture's latents
PATTERN_SECONDS = 2.0  # for the pattern of discarded weights, over all names
MAX_YAML_BYTES = 1_000_000
NEVER_MERGED = ("embeddings.position_ids",)  # endings of constants
OUTDATED = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash", "modelspec.predicate_key", "format")  # of a file that is merged


@dataclass(frozen=True)
class Ingredients:
    """The open files of a merge: as the catalog lists the checkpoints, and their content."""

    listed: tuple[ModelFile, ...]
    models: tuple[MergeSource, ...]
    family: Family  # of the first
    vae: MergeSource | None


def merge(
    recipe: MergeRecipe,
    control: Control,
    *,
    find_checkpoint: Callable[[str], ModelFile],
    find_vae: Callable[[str], ModelFile],
    folder: Path,
) -> Iterator[Event]:
    """Write the recipe's new checkpoint into `folder`; yields what happens, Finished last. To stop, close it or let `control` say so.

    Raises BadRequest where the recipe cannot be carried out, with the tensor that does not fit; StorageError where the disk is full.
    """
    recipe.validate()
    listed = tuple(find_checkpoint(name) for name in recipe.checkpoints)
    yield Loading(f"reading {' and '.join(dict.fromkeys(file.name for file in listed))}")
    with ExitStack() as files:
        ingredients = _open(recipe, listed, find_vae, files)
        tensors, is_inpainting = _plan(recipe, ingredients)
        name = (recipe.name or _made_name(recipe, listed)) + (".inpainting" if is_inpainting else "")
        metadata = _metadata(recipe, ingredients, name, is_inpainting)
        try:
            with new_place(folder / f"{name}.safetensors") as part, closing(write_tensors(part, tensors, metadata)) as steps:
                yield from in_percents(f"writing {name}", steps, control)
        except Interrupted:
            yield Finished(interrupted=True)
            return
    _copy_yaml(recipe, listed, folder / f"{name}.yaml")
    yield Finished()


def _open(recipe: MergeRecipe, listed: tuple[ModelFile, ...], find_vae: Callable[[str], ModelFile], files: ExitStack) -> Ingredients:
    """The files, which must be checkpoints of one family."""
    opened = [open_checkpoint(file.path, files) for file in listed]
    first = opened[0][1]
    for file, (_, family) in zip(listed, opened, strict=True):
        if family.config != first.config:
            what = f"{listed[0].name} is {first.title}, {file.name} is {family.title}"
            raise BadRequest(f"{what}; only checkpoints of one family can be merged")
    vae = None if recipe.bake_in_vae in ("", "None") else open_vae(find_vae(recipe.bake_in_vae).path, files)
    return Ingredients(listed, tuple(source for source, _ in opened), first, vae)


def _plan(recipe: MergeRecipe, ingredients: Ingredients) -> tuple[dict[str, Outgoing], bool]:
    """Every tensor of the new file, and whether an inpainting model was merged with plain ones."""
    first, *others = ingredients.models
    vae_names = ingredients.vae.keys if ingredients.vae else {}
    kept = _not_discarded(recipe.discard_weights, dict.fromkeys([*first.keys, *vae_names]))
    tensors, is_inpainting = {}, False
    for name in kept:
        if ingredients.vae and name in vae_names:
            _check_baked(name, first, ingredients.vae)
            tensors[name] = _copied(ingredients.vae, name, recipe.precision, first.shape(name) if name in first.keys else None)
        elif others and _is_merged(name, first, others):
            channels = _shared_channels(name, first, others)
            is_inpainting = is_inpainting or channels is not None
            tensors[name] = _mixed(recipe, first, others, name, channels)
        else:
            tensors[name] = _copied(first, name, recipe.precision)
    if not tensors:
        raise BadRequest("the pattern of the weights to discard leaves none; make it narrower")
    return tensors, is_inpainting


def _is_merged(name: str, first: MergeSource, others: list[MergeSource]) -> bool:
    """Weights that all files have; constants of schedules and markers, and what one file lacks, stay as in A.

    "model" is in the names of all weights: of UNet, VAE, text encoders and their averages.
    """
    in_all = all(name in other.keys for other in others)
    return in_all and "model" in name and not name.endswith(NEVER_MERGED) and first.dtype(name).is_floating_point


def _shared_channels(name: str, first: MergeSource, others: list[MergeSource]) -> int | None:
    """None where all shapes are the same; 4 where A is the first layer of an inpainting model and the others' are plain ones'.

    Raises BadRequest for all other shapes.
    """
    shape, shapes = first.shape(name), [other.shape(name) for other in others]
    if all(other == shape for other in shapes):
        return None
    same_but_channels = all(other[:1] + other[2:] == shape[:1] + shape[2:] and len(other) == len(shape) > 1 for other in shapes)
    channels = {other[1] for other in shapes} if same_but_channels else set()
    if shape[1:2] == (INPAINTING_CHANNELS,) and channels == {PLAIN_CHANNELS}:
        return PLAIN_CHANNELS
    if shape[1:2] == (PLAIN_CHANNELS,) and channels == {INPAINTING_CHANNELS}:
        raise BadRequest(f"{others[0].file.name} is an inpainting model and {first.file.name} is not; choose the inpainting model as A")
    theirs = " and ".join(f"{other.shape(name)} in {other.file.name}" for other in others)
    raise BadRequest(f"tensor {name} has the shape {shape} in {first.file.name} and {theirs}; checkpoints are merged only where they fit")


def _mixed(recipe: MergeRecipe, first: MergeSource, others: list[MergeSource], name: str, channels: int | None) -> Outgoing:
    """The mixture of a tensor, worked out in fp32, in A's shape."""

    def pieces() -> Iterator[Tensor]:
        for rows in first.row_slices(name):
            result = first.rows(name, rows, torch.float32)
            part = result if channels is None else result[:, :channels]
            second = others[0].rows(name, rows, torch.float32)
            if recipe.method == "Weighted sum":
                part.mul_(1 - recipe.multiplier).add_(second, alpha=recipe.multiplier)
            else:
                part.add_(second.sub_(others[1].rows(name, rows, torch.float32)), alpha=recipe.multiplier)
            yield result

    return Outgoing(PRECISIONS[recipe.precision], first.shape(name), pieces)


def _copied(source: MergeSource, name: str, precision: str, shape: tuple[int, ...] | None = None) -> Outgoing:
    """A tensor as it is, but for its number type; in another shape of as many numbers where one is given."""
    dtype = source.dtype(name)
    target = PRECISIONS[precision] if dtype.is_floating_point else dtype
    return Outgoing(target, shape or source.shape(name), lambda: (source.rows(name, rows) for rows in source.row_slices(name)))


def _check_baked(name: str, first: MergeSource, vae: MergeSource) -> None:
    """1x1 convolutions and linear layers are the same numbers in the same order."""
    if name not in first.keys:
        return
    a, b = (tuple(size for size in source.shape(name) if size != 1) for source in (first, vae))
    if a != b:
        shapes = f"{vae.shape(name)} in {vae.file.name} and {first.shape(name)} in {first.file.name}"
        raise BadRequest(f"this VAE does not fit: tensor {name} has the shape {shapes}; choose one of the same family")


def _not_discarded(pattern: str, names: Iterable[str]) -> list[str]:
    """The names in which the pattern is not found. Patterns that take ages are given up: the time limit is why this is not `re`."""
    if not pattern:
        return list(names)
    end = time.monotonic() + PATTERN_SECONDS
    try:
        compiled = regex.compile(pattern)
        return [name for name in names if not compiled.search(name, timeout=max(0.001, end - time.monotonic()))]
    except TimeoutError:
        raise BadRequest("the pattern of the weights to discard takes too long; avoid repeats within repeats such as (a+)+") from None
    except (regex.error, RecursionError, OverflowError, MemoryError) as error:
        raise BadRequest(f"the pattern of the weights to discard is not a regular expression: {error}") from None


def _made_name(recipe: MergeRecipe, listed: tuple[ModelFile, ...]) -> str:
    """As the field names merges: "0.7(a) + 0.3(b)", "a + 0.3(b - c)"."""
    names = [file.model_name for file in listed]
    share = round(recipe.multiplier, 2)
    if recipe.method == "Weighted sum":
        return f"{round(1 - share, 2)}({names[0]}) + {share}({names[1]})"
    return f"{names[0]} + {share}({names[1]} - {names[2]})" if recipe.method == "Add difference" else names[0]


def _metadata(recipe: MergeRecipe, ingredients: Ingredients, name: str, is_inpainting: bool) -> dict[str, str]:
    """What the new file says of itself: what it predicts, the merged files' metadata, the recipe."""
    metadata: dict[str, str] = {}
    if recipe.copy_metadata:
        for source in reversed(ingredients.models):
            metadata |= {key: value for key, value in source.file.metadata.items() if key not in OUTDATED}
    family = ingredients.family
    if not family.is_guess:
        metadata["modelspec.prediction_type"] = "v" if family.prediction_type == "v_prediction" else "epsilon"
    if not recipe.add_recipe:
        return metadata
    size = {} if family.is_guess else {"modelspec.resolution": f"{family.native_size}x{family.native_size}"}
    return metadata | {
        **_told_recipe(recipe, ingredients, is_inpainting),
        **size,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": name,
        "modelspec.merged_from": ", ".join(file.stem for file in ingredients.listed),
    }


def _told_recipe(recipe: MergeRecipe, ingredients: Ingredients, is_inpainting: bool) -> dict[str, str]:
    """The recipe under the keys that the field's programs read, and the recipes of the merged files."""
    hashes = [file.sha256 or sha256_of(file.path) for file in ingredients.listed]
    slots = dict(zip(("primary", "secondary", "tertiary"), [*hashes, None, None], strict=False))
    told = {
        "type": "easel",
        **{f"{slot}_model_hash": sha256 for slot, sha256 in slots.items()},
        "interp_method": recipe.method,
        "multiplier": recipe.multiplier,
        "save_as_half": recipe.precision == "fp16",
        "precision": recipe.precision,
        "custom_name": recipe.name,
        "config_source": recipe.config_source,
        "bake_in_vae": recipe.bake_in_vae,
        "discard_weights": recipe.discard_weights,
        "is_inpainting": is_inpainting,
    }
    merged: dict[str, object] = {}
    for file, sha256, source in zip(ingredients.listed, hashes, ingredients.models, strict=True):
        earlier = _json(source.file.metadata.get("sd_merge_models"))
        merged = (earlier if isinstance(earlier, dict) else {}) | merged
        merged[sha256] = {"name": file.name, "sd_merge_recipe": _json(source.file.metadata.get("sd_merge_recipe"))}
    return {"sd_merge_recipe": json.dumps(told), "sd_merge_models": json.dumps(merged)}


def _json(text: str | None) -> object:
    """Metadata of strangers: what is no JSON is nothing."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _copy_yaml(recipe: MergeRecipe, listed: tuple[ModelFile, ...], target: Path) -> None:
    """The .yaml beside the first file that has one. It is copied for other programs and never read by this one."""
    sources = {"A, B or C": listed, "B": listed[1:2], "C": listed[2:3]}.get(recipe.config_source, ())
    for path in (file.path.with_suffix(".yaml") for file in sources):
        if not path.is_file() or target.exists():
            continue
        try:
            with open_model_file(path) as file:
                size = file.seek(0, 2)
                if size > MAX_YAML_BYTES:
                    raise BadModelFile(f"{path.name} is too large for a configuration")
                file.seek(0)
                content = read_exactly(file, size, path.name)
            with new_place(target) as part:
                part.write_bytes(content)
        except EaselError:
            continue  # the checkpoint is complete without it
        return
