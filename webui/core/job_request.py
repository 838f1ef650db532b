"""All that a job may be asked: each kind of request under the name by which the queue stores it."""

from webui.core.extras import ExtrasRequest
from webui.core.model_orders import MergeRecipe, SaveOrder
from webui.core.request import GenerationRequest
from webui.core.scripts.request import ScriptRequest
from webui.core.training_request import TrainingRequest
from webui.core.xray import XrayRequest

JobRequest = GenerationRequest | ScriptRequest | ExtrasRequest | XrayRequest | MergeRecipe | SaveOrder | TrainingRequest
KINDS: dict[str, type[JobRequest]] = {
    "pictures": GenerationRequest,
    "script": ScriptRequest,
    "extras": ExtrasRequest,
    "xray": XrayRequest,
    "merge": MergeRecipe,
    "save": SaveOrder,
    "training": TrainingRequest,
}


def kind_of(request: JobRequest) -> str:
    """The name of a request's kind in KINDS."""
    return next(name for name, kind in KINDS.items() if type(request) is kind)


def shown_request(request: JobRequest) -> GenerationRequest | None:
    """The request whose pictures a job is for; of a script the first one, of a study the one that is looked into; None for work on finished
    pictures and on model files."""
    if isinstance(request, ScriptRequest | XrayRequest):
        return request.base
    return request if isinstance(request, GenerationRequest) else None


def last_models(request: JobRequest) -> tuple[str, str] | None:
    """Checkpoint and VAE that a worker has in hand after the job; None where it loads none."""
    if isinstance(request, ScriptRequest):
        return request.last_models
    if isinstance(request, XrayRequest):
        return request.base.checkpoint, request.base.vae
    return (request.checkpoint, request.vae) if isinstance(request, GenerationRequest | SaveOrder) else None


def makes_model_files(request: JobRequest) -> bool:
    """Whether there is something new in the model folders when the job is done."""
    return isinstance(request, MergeRecipe | SaveOrder | TrainingRequest)
