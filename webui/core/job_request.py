"""All that a job may be asked: each kind of request under the name by which the queue stores it."""

from webui.core.extras import ExtrasRequest
from webui.core.model_orders import MergeRecipe, SaveOrder
from webui.core.request import GenerationRequest
from webui.core.scripts.request import ScriptRequest

JobRequest = GenerationRequest | ScriptRequest | ExtrasRequest | MergeRecipe | SaveOrder
KINDS: dict[str, type[GenerationRequest] | type[ScriptRequest] | type[ExtrasRequest] | type[MergeRecipe] | type[SaveOrder]] = {
    "pictures": GenerationRequest,
    "script": ScriptRequest,
    "extras": ExtrasRequest,
    "merge": MergeRecipe,
    "save": SaveOrder,
}


def kind_of(request: JobRequest) -> str:
    """The name of a request's kind in KINDS."""
    return next(name for name, kind in KINDS.items() if type(request) is kind)


def shown_request(request: JobRequest) -> GenerationRequest | None:
    """The request whose pictures a job is for; of a script the first one; None for work on finished pictures and on model files."""
    if isinstance(request, ScriptRequest):
        return request.base
    return request if isinstance(request, GenerationRequest) else None


def last_models(request: JobRequest) -> tuple[str, str] | None:
    """Checkpoint and VAE that a worker has in hand after the job; None where it loads none."""
    if isinstance(request, MergeRecipe | ExtrasRequest):
        return None
    if isinstance(request, ScriptRequest):
        return request.last_models
    return request.checkpoint, request.vae


def makes_model_files(request: JobRequest) -> bool:
    """Whether there is something new in the model folders when the job is done."""
    return isinstance(request, MergeRecipe | SaveOrder)
