"""Aesthetic gradients (arXiv:2209.12330): the text encoder, tuned for one prompt until CLIP finds it closer to an embedding of pictures.

The embedding lies in the space that CLIP's texts and pictures share. A checkpoint holds CLIP's text encoder, but neither the projection
into that space nor the image tower: both are read from a local folder with CLIP itself, in transformers' form. The numbers are those of
the extension that gave the fields their names, so that its pictures can be made again; it tuned CLIP's original text encoder, Easel the
checkpoint's own (the same weights in most SD 1.x checkpoints).
"""

import copy
import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from webui.core.aesthetic import Aesthetic
from webui.core.diffusers_folder import weight_files
from webui.core.errors import BadModelFile, BadRequest, MissingModel
from webui.engine.component_places import image_tower_part, open_weights
from webui.engine.model import DiffusionModel
from webui.engine.model_file import ReadAs, read_plain
from webui.engine.module_loading import Reading, load_image_encoder
from webui.engine.text_encoding import Encode

MAX_FILE_BYTES = 16_000_000  # of an aesthetic embedding, which is a few thousand numbers
MAX_TEXT_TOKENS = 77
PROJECTION = "text_projection.weight"
PICTURES_AT_ONCE = 8
CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of red, green and blue in 0 .. 1


@dataclass(frozen=True)
class Guide:
    """Where a job's prompts are drawn to. target: (1, n), in CLIP's common space; projection: (n, width), from pooled text states to it."""

    settings: Aesthetic
    target: Tensor
    projection: Tensor


def make_guide(model: DiffusionModel, settings: Aesthetic, embedding: Path, clip_folder: Path) -> Guide:
    """The guide of a job with `model`. embedding: the file that settings.embedding names.

    Raises BadRequest where model, embedding and CLIP do not belong together, MissingModel where CLIP is not in `clip_folder`.
    """
    if [layout.naming for layout in model.family.text_encoders] != ["clip"]:
        raise BadRequest(f"aesthetic gradients cannot be used with {model.family.title}; choose a Stable Diffusion 1.x checkpoint")
    target = normalize(read_aesthetic_embedding(embedding), dim=-1)
    projection = read_text_projection(clip_folder)
    size, width = projection.shape
    own_width = model.text_encoder.config.hidden_size
    if width != own_width:
        raise BadRequest(
            f"the CLIP in {clip_folder} has text states of width {width}, this checkpoint's text encoder of {own_width}; "
            "aesthetic gradients need the CLIP that the checkpoint was trained with (ViT-L/14 for Stable Diffusion 1.x)"
        )
    if target.shape[1] != size:
        raise BadRequest(f"{embedding.name} has {target.shape[1]} numbers, the CLIP in {clip_folder} {size}: it was made with another CLIP")
    if settings.text:
        target = _turned(target, _text_features(model, projection, settings.text), settings)
    return Guide(settings, target, projection)


def no_guide(model: DiffusionModel, settings: Aesthetic) -> Guide:
    """For callers without files: raises MissingModel."""
    raise MissingModel(f"there is no aesthetic embedding {settings.embedding!r}; leave it out")


def _text_features(model: DiffusionModel, projection: Tensor, text: str) -> Tensor:
    """(1, n): a text in CLIP's common space, of any length; its first 75 tokens count."""
    ids = model.tokenizer([text], truncation=True, max_length=MAX_TEXT_TOKENS, return_tensors="pt")["input_ids"]
    with torch.no_grad(), model.at_work(model.text_encoder):
        pooled = model.text_encoder(input_ids=ids.to(model.text_encoder.device)).pooler_output
        return pooled.float().to(projection.device) @ projection.T


def _turned(target: Tensor, text: Tensor, settings: Aesthetic) -> Tensor:
    """The target on its way to the text, or to what is left of it without the text. As in the extension a text counts by its length."""
    other = normalize(target - text, dim=-1) if settings.text_negative else text
    return slerp(target, other, settings.slerp_angle)


def drawn_states(guide: Guide, encoder: nn.Module, ids: Tensor, states: Tensor, encode: Encode) -> Tensor:
    """The text states of one chunk of a prompt, drawn to the guide's target; the encoder is left as it is.

    ids: (1, 77). states: (1, 77, width), what `encode` gives for them, weighted as they may be. Hooks of the encoder, such as those that
    put embeddings' vectors in place, work in the tuned copy as well.
    """
    if guide.settings.changes_nothing:
        return states
    low, high, weight = states.float(), encode(tuned_copy(guide, encoder, ids), ids).float(), guide.settings.weight
    return (slerp(low, high, weight) if guide.settings.slerp else torch.lerp(low, high, weight)).to(states.dtype)


def tuned_copy(guide: Guide, encoder: nn.Module, ids: Tensor) -> nn.Module:
    """A copy of the text encoder in float32 that takes the text `ids` (1, 77) closer to the target: Adam on minus the cosine.

    Needs four times the encoder's float32 size in memory (2 GB for CLIP ViT-L/14). Works in inference mode, too.
    """
    with torch.inference_mode(False), torch.enable_grad():
        tuned = copy.deepcopy(encoder).float().requires_grad_(True)
        # copies: what was made in inference mode could not be used
        ids, projection, target = (tensor.to(ids.device, copy=True) for tensor in (ids, guide.projection, guide.target))
        optimizer = torch.optim.Adam(tuned.parameters(), lr=guide.settings.learning_rate)
        for _ in range(guide.settings.steps):
            features = normalize(tuned(input_ids=ids).pooler_output @ projection.T, dim=-1)
            optimizer.zero_grad()
            (-features @ target.T).mean().backward()
            optimizer.step()
        optimizer.zero_grad()
    return tuned.requires_grad_(False)


def slerp(low: Tensor, high: Tensor, share: float) -> Tensor:
    """From `low` to `high` on an arc, by a `share` of the angle between them; on a line where there is no angle.

    Angles are those of vectors along axis 1. For text states (chunks, 77, width) that is one channel over all tokens: the extension's way.
    """
    cosine = (normalize(low, dim=1) * normalize(high, dim=1)).sum(1, keepdim=True)
    angle = cosine.clamp(-1, 1).acos()
    sine = angle.sin()
    arc = (torch.sin((1 - share) * angle) * low + torch.sin(share * angle) * high) / sine
    return torch.where(sine > 1e-4, arc, torch.lerp(low, high, share))


def read_aesthetic_embedding(path: Path) -> Tensor:
    """(1, n) float32, of any length: a `.pt` file with nothing but the tensor, or any file with just one tensor in it."""
    content = read_plain(path, MAX_FILE_BYTES)
    tensors = [value for value in content.values() if isinstance(value, Tensor)] if isinstance(content, dict) else [content]
    if (
        len(tensors) != 1
        or not isinstance(tensors[0], Tensor)
        or tensors[0].ndim not in (1, 2)
        or tensors[0].numel() != tensors[0].shape[-1]
    ):
        raise BadModelFile(f"{path.name} is not an aesthetic embedding: it should hold one tensor of shape 1 x 768")
    embedding = tensors[0].detach().float().reshape(1, -1)
    if not 0 < embedding.norm().item() < math.inf:
        raise BadModelFile(f"{path.name} holds no direction (its numbers are 0, infinite or NaN); make or download it again")
    return embedding


def read_text_projection(clip_folder: Path) -> Tensor:
    """(n, width) float32: CLIP's way from pooled text states to the space that texts and pictures share."""
    _check_clip_folder(clip_folder)
    with ExitStack() as files:
        file = open_weights(clip_folder, files)
        if len(file.shapes.get(PROJECTION, ())) != 2:
            raise BadModelFile(f"{clip_folder / file.name} has no {PROJECTION}; {_advice(clip_folder)}")
        return file.read(PROJECTION, ReadAs(torch.float32))


@torch.no_grad()
def making_aesthetic_embedding(
    pictures: Iterable[Image.Image], clip_folder: Path, device: torch.device | None = None
) -> Generator[int, None, Tensor]:
    """Returns (1, n) float32 on the CPU: the mean of the pictures in CLIP's common space; yields how many have been looked at.

    Raises MissingModel where CLIP is not there, BadRequest where there is no picture.
    """
    _check_clip_folder(clip_folder)
    if not (clip_folder / "config.json").is_file():
        raise MissingModel(f"{clip_folder / 'config.json'} is not there: {_advice(clip_folder)}")
    with ExitStack() as files:
        part, config = image_tower_part(clip_folder, files)
        with Reading(torch.float32, device or torch.device("cpu")) as reading:
            tower = load_image_encoder(part, config, reading)
    total, count = torch.zeros(1, tower.config.projection_dim), 0
    for batch in _batches(_prepared(picture, tower.config.image_size) for picture in pictures):
        total += tower(pixel_values=batch.to(tower.device)).image_embeds.sum(0, keepdim=True).cpu()
        count += len(batch)
        yield count
    if not count:
        raise BadRequest("there are no pictures to make an aesthetic embedding from; choose a folder with at least one")
    return total / count


def _batches(pictures: Iterator[Tensor]) -> Iterator[Tensor]:
    while batch := list(islice(pictures, PICTURES_AT_ONCE)):
        yield torch.stack(batch)


def _prepared(picture: Image.Image, size: int) -> Tensor:
    """(3, size, size): the picture's middle, its shorter side scaled to `size`, in CLIP's range. Only the middle is ever scaled."""
    width, height = picture.size
    scaled = [int(size * side / min(width, height)) for side in (width, height)]
    left, top = ((side - size) // 2 for side in scaled)
    across, down = width / scaled[0], height / scaled[1]  # pixels of the picture to one of the result
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    middle = picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=box)
    pixels = torch.frombuffer(bytearray(middle.tobytes()), dtype=torch.uint8).reshape(size, size, 3).permute(2, 0, 1) / 255
    return (pixels - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_DEVIATION)[:, None, None]


def _check_clip_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise MissingModel(f"{folder} is not there: {_advice(folder)}")
    try:
        weight_files(folder)
    except MissingModel:
        raise MissingModel(f"CLIP is not there: {_advice(folder)}") from None


def _advice(folder: Path) -> str:
    return (
        "aesthetic gradients need CLIP itself, of which a checkpoint holds only a part: put config.json and model.safetensors of "
        f"openai/clip-vit-large-patch14 (1.7 GB) into {folder}"
    )
