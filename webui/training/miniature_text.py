"""Trains the miniature's CLIP text encoder to say, from the end of a caption on, all that the caption says.

The encoder is causal, so the end-of-text token and the padding behind it see the whole caption; there linear heads must name
every attribute, on the last layer and on one random earlier layer a step, so that CLIP skip keeps its sense. Then the encoder is frozen.
"""

from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from webui.training.captions import ATTRIBUTES, Caption, caption
from webui.training.progress import Stage
from webui.training.world import random_scene

BATCH = 48
LENGTH = 40  # tokens; captions are shorter, and a full 77 costs twice as much
FULL_LENGTH_EVERY = 10  # steps between batches of CONTEXT tokens, which teach the late positions
CONTEXT = 77
LEARNING_RATE = 1.5e-3
EARLIER_LAYER_WEIGHT = 0.3
STRANGE_WORDS = 0.15  # share of captions in which random tokens stand


class Heads(nn.ModuleDict):
    """One linear classifier an attribute, over text states (..., width)."""

    def __init__(self, width: int):
        super().__init__({name: nn.Linear(width, len(values)) for name, values in ATTRIBUTES.items()})

    def loss(self, states: Tensor, after_end: Tensor, said: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy over the attributes and the positions where `after_end` (batch, length) holds."""
        chosen = states[after_end]
        rows = after_end.nonzero()[:, 0]
        losses = [F.cross_entropy(head(chosen).float(), said[name][rows]) for name, head in self.items()]
        return torch.stack(losses).mean()

    def right(self, states: Tensor, said: dict[str, Tensor]) -> float:
        """Share of attributes named rightly from states (batch, width)."""
        hits = [(head(states).argmax(-1) == said[name]).float().mean() for name, head in self.items()]
        return float(torch.stack(hits).mean())


def train_text_encoder(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, stage: Stage, seed: int = 2) -> None:
    """Steps of BATCH fresh captions; `stage` counts, saves and resumes."""
    heads = Heads(encoder.config.hidden_size)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    stage.resume(text_encoder=encoder, heads=heads, optimizer=optimizer)
    rng = Random(seed + stage.step)
    for step in stage.steps():
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * stage.cosine(step, warmup=100)
        length = CONTEXT if step % FULL_LENGTH_EVERY == 0 else LENGTH
        captions = [random_caption(rng) for _ in range(BATCH if length == LENGTH else BATCH // 2)]
        tokens = with_strange_words(tokenize(tokenizer, [c.text for c in captions], length), rng)
        said = said_indices(captions)
        after_end = tokens.eq(encoder.config.eos_token_id)
        with torch.autocast("cpu", torch.bfloat16):
            states = encoder(tokens, output_hidden_states=True).hidden_states
            loss = heads.loss(encoder.final_layer_norm(states[-1]), after_end, said)
            earlier = encoder.final_layer_norm(states[rng.randint(1, len(states) - 2)])
            loss = loss + EARLIER_LAYER_WEIGHT * heads.loss(earlier, after_end, said)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        stage.done(step, loss.item(), text_encoder=encoder, heads=heads, optimizer=optimizer)


def random_caption(rng: Random) -> Caption:
    """A caption of a random scene."""
    return caption(random_scene(rng), rng)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str], length: int = CONTEXT) -> Tensor:
    """Token ids (n, length): start, words, end, padded with end tokens."""
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def with_strange_words(tokens: Tensor, rng: Random) -> Tensor:
    """Tokens (n, length) with one to three random ones put before the first word of some rows: words that mean nothing here."""
    end = int(tokens[0, -1])
    for row in tokens:
        if rng.random() < STRANGE_WORDS and int(row[-4]) == end:
            strange = torch.tensor([rng.randrange(end - 1) for _ in range(rng.randint(1, 3))])
            at = 1 if rng.random() < 0.5 else int(row.eq(end).nonzero()[0])
            row[at:] = torch.cat([strange, row[at:]])[: len(row) - at]
    return tokens


def said_indices(captions: list[Caption]) -> dict[str, Tensor]:
    """For each attribute the index in ATTRIBUTES of what each caption says: (n,)."""
    return {name: torch.tensor([values.index(c.said[name]) for c in captions]) for name, values in ATTRIBUTES.items()}


@torch.no_grad()
def accuracy(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, heads: Heads, skip: int, count: int = 200, seed: int = 99) -> float:
    """Share of attributes that the last position of `count` unseen captions tells rightly at CLIP skip `skip`."""
    rng = Random(seed)
    captions = [random_caption(rng) for _ in range(count)]
    states = encoder(tokenize(tokenizer, [c.text for c in captions]), output_hidden_states=True).hidden_states[-skip]
    return heads.right(encoder.final_layer_norm(states)[:, -1], said_indices(captions))


@torch.no_grad()
def text_states(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str], skip: int = 1) -> Tensor:
    """What the UNet attends to: (n, 77, width), the final layer norm applied after the CLIP skip."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = encoder(tokenize(tokenizer, texts), output_hidden_states=True).hidden_states[-skip]
        return encoder.final_layer_norm(hidden)
