"""Prompt -> what the UNet attends to: 75-token chunks, attention weights, embeddings, CLIP skip, SDXL's two text encoders."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from webui.core.chunks import CHUNK, COMMA_BACKTRACK, Word, split_words
from webui.core.errors import BadRequest
from webui.core.prompt import BREAK, pieces_of
from webui.engine.embeddings import Embedding, EmbeddingNames, spliced
from webui.engine.model import DiffusionModel

CHUNKS_AT_ONCE = 16  # encoded in one call
MAX_CHUNKS = 500  # of one text; 100,000 characters of words are about 330. The UNet's memory and time grow with each
PLACEHOLDER = 0  # the token id under an embedding's vector; any but those of begin, end and comma
GOOD_SCORE, BAD_SCORE = 6.0, 2.5  # aesthetic scores that the refiner is told with prompt and negative prompt
SDXL_LAYER = -2  # whose states SDXL was trained on; the last layer serves the pooled state alone
T = TypeVar("T")

Encode = Callable[[nn.Module, Tensor], Tensor]
"""(text encoder, token ids (1, 77)) -> text states (1, 77, width), with the job's CLIP skip."""
Draw = Callable[[nn.Module, Tensor, Tensor, Encode], Tensor]
"""(text encoder, token ids (1, 77), its weighted states (1, 77, width), how it encodes) -> states in their place."""


class Stopped(Exception):
    """The job was told to stop while its prompts were encoded."""


def never() -> bool:
    return False


@dataclass(frozen=True, eq=False)
class Conditioning:
    """An encoded prompt, on the model's device.

    states: (77 * chunks, width). For SDXL's UNets only, else None: pooled: (width,); sizes: (5,) or (6,), see `with_sizes`.
    embeddings: those that the prompt calls, each once.
    """

    states: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None
    embeddings: tuple[Embedding, ...] = ()

    def with_states(self, states: Tensor) -> "Conditioning":
        return replace(self, states=states)


class Token(NamedTuple):
    """One place in a chunk: a token of the vocabulary, or vector `row` of an embedding."""

    id: int
    weight: float
    embedding: Embedding | None = None
    row: int = 0


@dataclass(frozen=True)
class Variants:
    """The texts that one prompt has on its way, as tokens; the key under which their conditionings can be found again.

    chunks: of each text that differs from those before, as many for each. counts: how often each of them occurs. negative: the texts are
    a negative prompt's. empty: all texts are. unfit: see `EmbeddingNames`.
    """

    chunks: tuple[tuple[tuple[Token, ...], ...], ...]
    counts: tuple[int, ...]
    emphasis: str = "Original"
    negative: bool = False
    empty: bool = False
    unfit: tuple[str, ...] = ()


def read_variants(
    model: DiffusionModel,
    texts: Sequence[str],
    embeddings: Mapping[str, Embedding] | None = None,
    emphasis: str = "Original",
    negative: bool = False,
    backtrack: int = COMMA_BACKTRACK,
) -> tuple[Variants, list[int]]:
    """`texts` as tokens, and for each of them which variant it is. Texts of fewer chunks get empty ones, as in the field.

    backtrack: see `core.chunks.split_words`. Raises BadRequest for a text of more than MAX_CHUNKS chunks.
    """
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    pieces = [pieces_of(text, emphasis) for text in counts]
    names = EmbeddingNames(model, embeddings or {}, " ".join(text for parts in pieces for text, _ in parts))
    split = [split_into_chunks(parts, model, names, backtrack) for parts in pieces]
    most = max(map(len, split))
    if most > MAX_CHUNKS:
        raise BadRequest(
            f"the {'negative prompt' if negative else 'prompt'} makes {most} chunks of {CHUNK} tokens; at most {MAX_CHUNKS} are taken: "
            "shorten it, or leave out BREAKs"
        )
    chunks = tuple(tuple(map(tuple, [*parts, *[[]] * (most - len(parts))])) for parts in split)
    places = {text: place for place, text in enumerate(counts)}
    variants = Variants(chunks, tuple(counts.values()), emphasis, negative, not any(counts), tuple(names.unfit.values()))
    return variants, [places[text] for text in texts]


def encode_variants(
    model: DiffusionModel, variants: Variants, clip_skip: int, draw: Draw | None = None, stopped: Callable[[], bool] = never
) -> list[Conditioning]:
    """The conditioning of each of the variants.

    clip_skip: 1 = the last layer; counted as the field does, one more than diffusers. SD 1.x alone has the choice: in the field, that of
    SD 2.x and SDXL is fixed by their training (the last but one). draw: changes the states of each chunk, one at a time. stopped: asked
    before each call of a text encoder; where it says so, Stopped is raised.
    """
    columns = [_encode_column(model, column, variants, clip_skip, draw, stopped) for column in zip(*variants.chunks, strict=True)]
    states = torch.cat([states for states, _ in columns], dim=1).to(model.device)
    pooled = None if columns[0][1] is None else columns[0][1].to(model.device)
    if variants.negative and variants.empty and pooled is not None:
        states, pooled = torch.zeros_like(states), torch.zeros_like(pooled)
    return [
        Conditioning(states[i], None if pooled is None else pooled[i], embeddings=_called(chunks))
        for i, chunks in enumerate(variants.chunks)
    ]


def encode_prompt(
    model: DiffusionModel, prompt: str, clip_skip: int, embeddings: Mapping[str, Embedding] | None = None, draw: Draw | None = None
) -> Conditioning:
    """A prompt that does not change, with attention syntax, and with embeddings by their names; see `encode_variants`.

    embeddings: name -> embedding; those of another width are not used.
    """
    return encode_variants(model, read_variants(model, [prompt], embeddings)[0], clip_skip, draw)[0]


def encode_negative_prompt(
    model: DiffusionModel, prompt: str, clip_skip: int, embeddings: Mapping[str, Embedding] | None = None
) -> Conditioning:
    """As `encode_prompt`; but an empty one is all zeros for SDXL, whose UNets were trained so, and not the empty prompt's states."""
    return encode_variants(model, read_variants(model, [prompt], embeddings, negative=True)[0], clip_skip)[0]


def with_sizes(conditioning: Conditioning, model: DiffusionModel, size: tuple[int, int], score: float) -> Conditioning:
    """`conditioning` for a picture of (height, width) pixels that was not cropped; the same for models that are not told about it.

    SDXL is told the size that a picture had, where it was cropped, and the size to make (arXiv:2307.01952, 2.2); its refiner in place of
    the last the picture's aesthetic score, GOOD_SCORE or BAD_SCORE.
    """
    if conditioning.pooled is None:
        return conditioning
    wanted = (score,) if len(model.text_encoders) == 1 else size
    return replace(conditioning, sizes=torch.tensor([*size, 0.0, 0.0, *wanted], device=model.device))


def split_into_chunks(
    pieces: Sequence[tuple[str, float]], model: DiffusionModel, names: EmbeddingNames, backtrack: int = COMMA_BACKTRACK
) -> list[list[Token]]:
    """Tokens of all pieces in order, with their weights, in chunks of at most CHUNK; never none. No embedding lies in two chunks."""
    return split_words(_words(pieces, model, names), backtrack)


def _words(pieces: Sequence[tuple[str, float]], model: DiffusionModel, names: EmbeddingNames) -> Iterator[Word[Token] | None]:
    """Single tokens, the vectors of an embedding in place of its name, and None for BREAK."""
    comma = model.tokenizer.convert_tokens_to_ids(",</w>")
    all_ids = model.tokenizer([text for text, _ in pieces], truncation=False, add_special_tokens=False, verbose=False)["input_ids"]
    for piece, ids in zip(pieces, all_ids, strict=True):
        if piece == BREAK:
            yield None
            continue
        weight, at = piece[1], 0
        while at < len(ids):
            found = names.at(ids, at)
            if found is None:
                yield Word([Token(ids[at], weight)], ids[at] == comma)
                at += 1
            else:
                embedding, length = found
                yield Word([Token(PLACEHOLDER, weight, embedding, row) for row in range(embedding.count)])
                at += length


def _encode_column(
    model: DiffusionModel,
    column: Sequence[tuple[Token, ...]],
    variants: Variants,
    clip_skip: int,
    draw: Draw | None,
    stopped: Callable[[], bool],
) -> tuple[Tensor, Tensor | None]:
    """One chunk of each variant: weighted states (variants, 77, width), those of several text encoders side by side, and pooled states
    (variants, width) if any."""
    weights = torch.tensor([[1.0, *(token.weight for token in chunk), *[1.0] * (CHUNK + 1 - len(chunk))] for chunk in column])
    all_states, pooled = [], None
    for layout, encoder, tokenizer in zip(model.family.text_encoders, model.text_encoders, model.tokenizers, strict=True):
        skip = clip_skip if layout.naming == "clip" else 1
        with model.at_work(encoder):
            parts = [
                _encode_chunks(model, encoder, tokenizer, column[start : start + CHUNKS_AT_ONCE], skip)
                for start in _until_stopped(range(0, len(column), CHUNKS_AT_ONCE), stopped)
            ]
            states = torch.cat([states for states, _ in parts])
            pooled = torch.cat([pooled for _, pooled in parts]) if parts[0][1] is not None else pooled
            if bool((weights != 1.0).any()):
                states = _emphasized(states, weights.to(states.device, states.dtype), variants)
            if draw:
                pairs = _until_stopped(zip(column, states, strict=True), stopped)
                states = torch.cat([_drawn(draw, encoder, tokenizer, *pair, skip) for pair in pairs])
        all_states.append(states)
    return torch.cat(all_states, dim=-1), pooled


def _until_stopped(work: Iterable[T], stopped: Callable[[], bool]) -> Iterator[T]:
    """Each piece of the work; raises Stopped in place of the next where the job was told to stop."""
    for piece in work:
        if stopped():
            raise Stopped
        yield piece


def _encode_chunks(
    model: DiffusionModel, encoder: nn.Module, tokenizer: Any, chunks: Sequence[tuple[Token, ...]], clip_skip: int
) -> tuple[Tensor, Tensor | None]:
    """States (chunks, 77, width) and pooled states (chunks, width), if any, without weights, of one text encoder."""
    with spliced(encoder, _vectors(chunks, encoder.config.hidden_size)):
        ids = torch.tensor(_rows(chunks, tokenizer), device=encoder.device)
        if model.family.is_sdxl:
            output = encoder(input_ids=ids, output_hidden_states=True)
            return output.hidden_states[SDXL_LAYER], output.get("text_embeds")
        return _hidden_states(encoder, ids, clip_skip), None


def _drawn(draw: Draw, encoder: nn.Module, tokenizer: Any, chunk: tuple[Token, ...], states: Tensor, clip_skip: int) -> Tensor:
    """(1, 77, width): what `draw` makes of a chunk's weighted states (77, width)."""
    with spliced(encoder, _vectors([chunk], encoder.config.hidden_size)):
        ids = torch.tensor(_rows([chunk], tokenizer), device=encoder.device)
        return draw(encoder, ids, states[None], lambda tuned, ids: _hidden_states(tuned, ids, clip_skip))


def _rows(chunks: Sequence[tuple[Token, ...]], tokenizer: Any) -> list[list[int]]:
    """77 token ids for each chunk."""
    begin, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    return [[begin, *(token.id for token in chunk), end, *[pad] * (CHUNK - len(chunk))] for chunk in chunks]


def _vectors(chunks: Sequence[tuple[Token, ...]], width: int) -> dict[tuple[int, int], Tensor]:
    """(chunk, position in its row) -> the embedding's vector that belongs there."""
    return {
        (row, 1 + place): token.embedding.vectors[width][token.row]
        for row, chunk in enumerate(chunks)
        for place, token in enumerate(chunk)
        if token.embedding
    }


def _called(chunks: Sequence[tuple[Token, ...]]) -> tuple[Embedding, ...]:
    """The embeddings in a text, each once."""
    return tuple({token.embedding.name: token.embedding for chunk in chunks for token in chunk if token.embedding}.values())


def _hidden_states(encoder: Any, ids: Tensor, clip_skip: int) -> Tensor:
    """(chunks, 77, width): the output of the clip_skip-th layer from the end, through the final layer norm, whichever layer it is."""
    if clip_skip == 1:
        return encoder(input_ids=ids).last_hidden_state
    layers = encoder.config.num_hidden_layers
    if clip_skip > layers:
        raise BadRequest(f"CLIP skip {clip_skip} is more than this checkpoint's text encoder has layers: use 1 to {layers}")
    states = encoder(input_ids=ids, output_hidden_states=True).hidden_states[-clip_skip]
    return encoder.final_layer_norm(states)


def _emphasized(states: Tensor, weights: Tensor, variants: Variants) -> Tensor:
    """Each token's state times its weight; with emphasis "Original" all of it scaled so that the mean is as before.

    states: (variants, 77, width). weights: (variants, 77). The mean is that over all tokens and channels of all texts, each as often as the
    prompt has it: the field encodes them as one batch.
    """
    weighted = states * weights[:, :, None]
    if variants.emphasis != "Original":
        return weighted
    counts = torch.tensor(variants.counts, device=states.device, dtype=torch.float32)
    means = [(each.mean(dim=(1, 2), dtype=torch.float32) * counts).sum() for each in (states, weighted)]
    return weighted * (means[0] / means[1])
