"""A folder of pictures as examples: cut to one size, each with captions out of a template, the text beside it, or its name."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from PIL import Image, ImageOps

from webui.core.errors import BadModelFile, BadRequest, MissingModel
from webui.core.image_metadata import open_image
from webui.core.model_orders import check_file_name
from webui.core.safetensors_header import open_model_file
from webui.core.training_request import TrainingRequest

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_PICTURES = 20_000
MAX_BYTES = 200_000_000  # of one picture
MAX_TEXT = 10_000  # characters of one caption
MAX_LINES = 100  # of a template
VARIANTS = 8  # of a caption whose tags are shuffled or left out
TEMPLATES_FOLDER = "textual_inversion_templates"  # below the data folder, for templates of one's own
TEMPLATES: dict[str, tuple[str, ...]] = {  # [name]: what is trained; [filewords]: the picture's own caption
    "none": ("picture",),
    "subject": ("[name]", "a picture of [name]", "a drawing of [name]", "one [name]", "[name] seen from nearby", "[name] seen from afar"),
    "subject_filewords": ("[name], [filewords]", "a picture of [name], [filewords]", "[filewords], [name]"),
    "style": ("in the style of [name]", "a picture in the style of [name]", "a drawing in the style of [name]"),
    "style_filewords": ("[filewords], in the style of [name]", "a picture of [filewords], in the style of [name]"),
    "hypernetwork": ("[filewords]", "a picture of [filewords]"),
}
USUAL = {"embedding": "subject_filewords", "hypernetwork": "hypernetwork", "lora": "hypernetwork"}


def read_examples(folder: Path, request: TrainingRequest, data_dir: Path) -> Iterator[tuple[Image.Image, Sequence[str]]]:
    """The folder's pictures, in order of names, with their captions. Raises BadRequest where there is none, or one is damaged."""
    lines = read_template(request.template or USUAL[request.kind], data_dir)
    files = picture_files(folder, data_dir)
    rng = Random(request.seed)
    for path in files:
        fitted = ImageOps.fit(opened(path).convert("RGB"), (request.width, request.height), Image.Resampling.LANCZOS)
        yield fitted, _captions(_own_caption(path), lines, request, rng)


def picture_files(folder: Path, data_dir: Path) -> list[Path]:
    """Those in the folder itself that lie below the data folder, links resolved, by name. Raises BadRequest where there is none."""
    home = data_dir.resolve()
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS and path.resolve().is_relative_to(home)]
    if not 1 <= len(files) <= MAX_PICTURES:
        raise BadRequest(f"{folder.name} holds {len(files)} pictures ({', '.join(ENDINGS)}); training takes 1 to {MAX_PICTURES}")
    return files


def opened(path: Path) -> Image.Image:
    """A picture. Raises BadRequest, naming the file."""
    try:
        return open_image(_read(path, MAX_BYTES))
    except BadRequest as error:
        raise BadRequest(f"{path.name}: {error}") from None


def read_template(name: str, data_dir: Path) -> tuple[str, ...]:
    """The lines of a template: of a file in the data folder, or one of TEMPLATES. Raises BadRequest."""
    bare = name.removesuffix(".txt")
    check_file_name(bare)
    try:
        text = _read(data_dir / TEMPLATES_FOLDER / f"{bare}.txt", MAX_LINES * MAX_TEXT).decode("utf-8", "replace")
    except MissingModel:
        if bare not in TEMPLATES:
            own = f"put {bare[:100]}.txt into {TEMPLATES_FOLDER}/ of the data folder"
            raise BadRequest(f"there is no template {bare[:100]!r}; choose one of: {', '.join(TEMPLATES)}, or {own}") from None
        return TEMPLATES[bare]
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())[:MAX_LINES]
    if not lines:
        raise BadRequest(f"the template {bare} is empty; write a line with [name] or [filewords] into it")
    return lines


def _own_caption(path: Path) -> str:
    """The text beside a picture, else its name without the number at its beginning."""
    try:
        return _read(path.with_suffix(".txt"), MAX_TEXT * 4).decode("utf-8", "replace").strip()[:MAX_TEXT]
    except (MissingModel, BadModelFile):
        return re.sub(r"^[-\d]+\s*", "", path.stem)


def _captions(own: str, lines: Sequence[str], request: TrainingRequest, rng: Random) -> tuple[str, ...]:
    varied = request.shuffle_tags or request.tag_drop_out > 0
    texts = [_varied(own, request, rng) for _ in range(VARIANTS)] if varied else [own]
    return tuple(dict.fromkeys(line.replace("[name]", request.name).replace("[filewords]", text) for text in texts for line in lines))


def _varied(text: str, request: TrainingRequest, rng: Random) -> str:
    tags = [tag.strip() for tag in text.split(",") if tag.strip()]
    tags = [tag for tag in tags if rng.random() >= request.tag_drop_out]
    if request.shuffle_tags:
        rng.shuffle(tags)
    return ", ".join(tags)


def _read(path: Path, most: int) -> bytes:
    """An ordinary file's bytes. Raises BadRequest, MissingModel, BadModelFile."""
    with open_model_file(path) as file:
        data: bytes = file.read(most + 1) or b""
    if len(data) > most:
        raise BadRequest(f"{path.name} is larger than {most} bytes; make it smaller")
    return data
