"""All that a job may be asked: each kind of request under the name by which the queue stores it."""

from webui.core.model_orders import MergeRecipe, SaveOrder
from webui.core.request import GenerationRequest

JobRequest = GenerationRequest | MergeRecipe | SaveOrder
KINDS: dict[str, type[GenerationRequest] | type[MergeRecipe] | type[SaveOrder]] = {
    "pictures": GenerationRequest,
    "merge": MergeRecipe,
    "save": SaveOrder,
}


def kind_of(request: JobRequest) -> str:
    """The name of a request's kind in KINDS."""
    return next(name for name, kind in KINDS.items() if type(request) is kind)
