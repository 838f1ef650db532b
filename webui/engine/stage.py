"""The model of the pass at work, with the networks that its prompt calls: one at a time, the next pass's in its place where it differs."""

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from functools import partial

from webui.core.event import Event, Notice
from webui.core.networks import extract_networks
from webui.core.request import GenerationRequest
from webui.engine.model import DiffusionModel
from webui.engine.networks import Networks, applied, fitting
from webui.engine.patches.freeu import freeu
from webui.engine.patches.seamless import seamless
from webui.engine.patches.token_merging import merged_tokens

Load = Callable[[GenerationRequest], DiffusionModel]
Follow = Callable[[Callable[[], DiffusionModel], str], Generator[Event, None, DiffusionModel]]
AXES = {  # of TILINGS
    "Off": {"horizontally": False, "vertically": False},
    "Both": {"horizontally": True, "vertically": True},
    "Horizontal": {"horizontally": True, "vertically": False},
    "Vertical": {"horizontally": False, "vertically": True},
}


class Stage:
    """Close it: then every model is as it was."""

    def __init__(self, load: Load, follow: Follow) -> None:
        """load: request -> the model with its checkpoint and VAE. follow: runs `load` and tells how far it is."""
        self._load, self._follow = load, follow
        self._wanted: object = None
        self._exits = ExitStack()
        self._told: set[str] = set()
        self.model: DiffusionModel | None = None

    def set_for(self, request: GenerationRequest, networks: Networks, only_fitting: bool = False) -> Generator[Event, None, DiffusionModel]:
        """The model of a pass, with its networks applied; what the pass before had is taken away first. networks: of its prompt.

        only_fitting: LoRAs for another family are left out, where else they are refused.
        """
        tags = [use.tag for use in extract_networks(request.prompt)[1]]
        merging = request.guidance.token_merging if request.guidance else 0.0
        wanted = (request.checkpoint, request.prediction_type, request.vae, tags, merging)  # tiling and FreeU are the same in all passes
        if self.model is None or self._wanted != wanted:
            self.close()
            self.model = yield from self._follow(partial(self._load, request), f"loading {request.checkpoint or 'the checkpoint'}")
            for part in (self.model.unet, self.model.vae):
                self._exits.enter_context(seamless(part, **AXES[request.tiling]))
            self._exits.enter_context(merged_tokens(self.model.unet, merging))
            self._exits.enter_context(freeu(self.model.unet, request.guidance))
            networks = fitting(networks, self.model) if only_fitting else networks
            yield from self.untold(self._exits.enter_context(applied(networks, self.model)))
            self._wanted = wanted
        return self.model

    def untold(self, texts: Iterable[str]) -> list[Notice]:
        """Those of the sentences for the user that were not told before."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._told]
        self._told.update(fresh)
        return [Notice(text) for text in fresh]

    def close(self) -> None:
        self._exits.close()
        self._wanted = None
