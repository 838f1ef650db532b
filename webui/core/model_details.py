"""What one model file and its sidecars say: family, trigger words, description, training facts. Opens the file, never trusts it."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from webui.core.diffusers_folder import folder_family
from webui.core.errors import BadModelFile, EaselError
from webui.core.family import FIRST_CONV, Family, Shapes, detect_family
from webui.core.model_listing import PICTURES, ModelFile
from webui.core.network_family import aesthetic_family, base_in_words, embedding_family, embedding_shape, hypernetwork_family, lora_family
from webui.core.safetensors_header import open_model_file, read_header, refuse_by_its_start
from webui.core.sidecars import MAX_TEXT, Sidecar, bounded, plain_text, read_sidecars, words
from webui.core.torch_outline import read_outline

READER = "3"  # to be counted up when files would be read differently, so that what is stored of them is read anew
MAX_OUTLINED = 400_000_000  # bytes of a .pt, .bin or .ckpt that is looked into
MAX_ROWS = 200
MAX_ROW = 500  # characters of one row of metadata
TOP_TAGS = 12
MAX_TAG_TEXT = 4_000_000  # characters of ss_tag_frequency
MAX_PICTURE_TEXT = 8_000_000  # characters of a thumbnail in the metadata
FROM_METADATA = "metadata"
MAIN_ROWS = (  # of metadata, in this order before all others
    "modelspec.title",
    "modelspec.author",
    "modelspec.architecture",
    "ss_output_name",
    "ss_base_model_version",
    "ss_sd_model_name",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_resolution",
    "ss_num_train_images",
    "ss_epoch",
    "ss_steps",
    "ss_training_comment",
)
UNREADABLE = ("modelspec.thumbnail", "ss_tag_frequency", "ss_bucket_info", "ss_dataset_dirs", "ss_datasets")
DETECTORS: Mapping[str, Callable[[Shapes, Mapping[str, str], str], Family | None]] = {
    "checkpoint": detect_family,
    "lora": lora_family,
    "embedding": embedding_family,
    "hypernetwork": hypernetwork_family,
    "aesthetic": aesthetic_family,
}


@dataclass(frozen=True, kw_only=True)
class Details:
    """What can be told of one model. thumbnail: the ending of the sidecar picture, "metadata", or ""; weight: preferred, 0 for none;
    vectors, width: of embeddings, else 0; rows: its metadata for reading, (name, value); warnings: about its sidecars."""

    family: Family | None = None
    problem: str = ""
    title: str = ""
    alias: str = ""
    base: str = ""
    description: str = ""
    triggers: str = ""
    negative: str = ""
    weight: float = 0.0
    notes: str = ""
    vae: str = ""  # that a checkpoint is to be used with
    text_encoder: str = ""
    prediction_type: str = ""  # and what it predicts, and for which size it is, whatever its file says; "" and 0: as it says
    native_size: int = 0
    thumbnail: str = ""
    vectors: int = 0
    width: int = 0
    rows: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


def read_details(kind: str, model: ModelFile) -> Details:
    """Everything about the model. What cannot be read is told in `problem` and `warnings`; nothing is raised."""
    sidecar = read_sidecars(model.beside)
    shapes: Shapes = {}
    metadata: Mapping[str, str] = {}
    family, problem = None, ""
    try:
        outlined = None if model.path.is_dir() else _outline(kind, model)
        if kind == "checkpoint" and model.path.is_dir():
            family = folder_family(model.path)
        if outlined is not None:
            shapes, metadata = outlined
            family = DETECTORS[kind](shapes, metadata, model.path.name) if kind in DETECTORS else None
    except EaselError as error:
        problem = str(error)
    return _joined(model, sidecar, shapes, metadata, family, problem)


def metadata_picture(model: ModelFile) -> str:
    """The data URI of the thumbnail in a safetensors file's metadata, "" if there is none. Raises BadModelFile, MissingModel."""
    with open_model_file(model.path) as file:
        picture = read_header(file, model.path.name).metadata.get("modelspec.thumbnail", "")
    return picture if _is_picture(picture) else ""


def _outline(kind: str, model: ModelFile) -> tuple[Shapes, Mapping[str, str]] | None:
    """Shapes and metadata; None for files that are not looked into, or whose verdict is left to the door of the engine: large torch files
    of small kinds, those of VAEs, and those in which no checkpoint's UNet is seen."""
    with open_model_file(model.path) as file:
        start = file.read(512)
        file.seek(0)
        large, named_so = kind in ("checkpoint", "vae"), model.name.lower().endswith(".safetensors")
        if start[:4] == b"PK\x03\x04" and not (large and named_so):
            return _torch_outline(kind, model, file)
        refuse_by_its_start(start, model.path.name)
        if large and not named_so:
            return None
        header = read_header(file, model.path.name)
    return {key: entry.shape for key, entry in header.tensors.items()}, header.metadata


def _torch_outline(kind: str, model: ModelFile, file: io.FileIO) -> tuple[Shapes, Mapping[str, str]] | None:
    if kind == "vae" or (kind != "checkpoint" and model.size > MAX_OUTLINED):
        return None
    try:
        outline = read_outline(file, model.path.name)
    except BadModelFile:
        if kind == "checkpoint":
            return None
        raise
    if kind == "checkpoint" and FIRST_CONV not in outline.shapes:
        return None
    return outline.shapes, {key: str(value) for key, value in outline.values.items()}


def _joined(model: ModelFile, sidecar: Sidecar, shapes: Shapes, metadata: Mapping[str, str], found: Family | None, problem: str) -> Details:
    """Sidecars count more than the file's own metadata: they are what the user can change."""
    title, described, trigger = (metadata.get(f"modelspec.{key}", "") for key in ("title", "description", "trigger_phrase"))
    vectors = embedding_shape(shapes) or (0, 0)
    return Details(
        family=found,
        problem=problem,
        title=sidecar.title or bounded(title, 200),
        alias=bounded(metadata.get("ss_output_name"), 200),
        base=sidecar.base or bounded(base_in_words(metadata), 100),
        description=sidecar.description or bounded(plain_text(described[: 2 * MAX_TEXT]), MAX_TEXT),
        triggers=sidecar.triggers or words(trigger) or top_tags(metadata.get("ss_tag_frequency", "")),
        negative=sidecar.negative,
        weight=sidecar.weight,
        notes=sidecar.notes,
        vae=sidecar.vae,
        text_encoder=sidecar.text_encoder,
        prediction_type=sidecar.prediction_type,
        native_size=sidecar.native_size,
        thumbnail=_thumbnail(model, metadata),
        vectors=vectors[0],
        width=vectors[1],
        rows=tuple(_rows(metadata)),
        warnings=sidecar.warnings,
    )


def top_tags(text: str) -> str:
    """The commonest tags of `ss_tag_frequency`, {"folder": {"tag": count}} as JSON, without those that only name what everything is."""
    if len(text) > MAX_TAG_TEXT:
        return ""
    try:
        folders = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return ""
    counts: Counter[str] = Counter()
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int) and 0 < count < 10**9:
                counts[tag.strip()] += count
    return words([tag for tag, _ in counts.most_common(TOP_TAGS)])


def _rows(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Metadata for reading: texts that fit a table, those of MAIN_ROWS first."""
    main = [key for key in MAIN_ROWS if key in metadata]
    for key in (*main, *sorted(set(metadata) - set(main)))[:MAX_ROWS]:
        value = f"({len(metadata[key])} characters)" if key in UNREADABLE else metadata[key]
        yield bounded(key, 100), bounded(value, MAX_ROW)


def _thumbnail(model: ModelFile, metadata: Mapping[str, str]) -> str:
    endings = {companion.ending for companion in model.beside}
    for ending in PICTURES:
        if ending in endings:
            return ending
    return FROM_METADATA if _is_picture(metadata.get("modelspec.thumbnail", "")) else ""


def _is_picture(text: str) -> bool:
    return text.startswith("data:image/") and len(text) <= MAX_PICTURE_TEXT
