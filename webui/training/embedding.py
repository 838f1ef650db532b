"""Trains an embedding (textual inversion, arXiv:2208.01618): the vectors of a new word, everything else standing still."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from webui.core.errors import BadRequest
from webui.engine.embeddings import Embedding, unfit_reason
from webui.engine.model import DiffusionModel
from webui.engine.tensor_writer import save_tensors
from webui.engine.text_encoding import encode_prompt


class EmbeddingTraining:
    """Vectors that prompts call `name`: those of `known`, to be trained on, or `count` new ones, beginning as the words of `start`."""

    def __init__(self, model: DiffusionModel, name: str, count: int = 2, start: str = "*", known: Embedding | None = None) -> None:
        if len(model.text_encoders) != 1:
            raise BadRequest("embeddings can be trained for models with one text encoder; choose a Stable Diffusion 1.x or 2.x checkpoint")
        self._model, self._name = model, name
        ids = model.tokenizer(start, add_special_tokens=False)["input_ids"] or [0]
        table = model.text_encoder.get_input_embeddings().weight.detach().float()
        vectors = torch.stack([table[ids[i % len(ids)]] for i in range(count)])
        if known is not None:
            if (reason := unfit_reason(known, model)) is not None:
                raise BadRequest(reason)
            vectors = known.vectors[table.shape[1]].to(table)
        self._vectors = nn.Parameter(vectors.clone())

    def parameters(self) -> list[nn.Parameter]:
        return [self._vectors]

    def attached(self) -> AbstractContextManager[None]:
        return nullcontext()

    def encode(self, caption: str) -> Tensor | None:
        if self._name not in caption:
            return None
        embedding = Embedding(self._name, {self._vectors.shape[1]: self._vectors})
        return encode_prompt(self._model, caption, 1, {self._name: embedding}).states

    def save(self, path: Path, metadata: Mapping[str, str], *, replace: bool = False) -> None:
        """Write the vectors as kohya's scripts do. Raises BadRequest where there is a file already (unless `replace`), StorageError."""
        save_tensors(path, {"emb_params": self._vectors.detach()}, metadata, replace=replace)
