"""The refiner as clients of /sdapi/v1 send it: by fields of the body, or as the always-on script "Refiner"."""

from dataclasses import replace
from typing import Any

from webui.api.schemas import Generation
from webui.core.errors import BadRequest
from webui.core.refiner import Refiner
from webui.core.request import GenerationRequest

TITLE = "refiner"  # of the script, case ignored
NONE = ("", "none")


def with_refiner(request: GenerationRequest, body: Generation) -> GenerationRequest:
    """`request`, which may have the refiner of an infotext, with what the client says of it. Raises BadRequest."""
    refiner = request.refiner
    arguments = _arguments(body)
    if arguments is not None:
        refiner = _chosen(refiner, arguments[1], arguments[2]) if arguments[0] else None
    if "refiner_checkpoint" in body.model_fields_set:
        refiner = _chosen(refiner, body.refiner_checkpoint, body.refiner_switch_at)
    elif refiner is not None and body.refiner_switch_at is not None:
        refiner = replace(refiner, switch_at=body.refiner_switch_at)
    return replace(request, refiner=refiner and _with_options(refiner, body.override_settings))


def _chosen(told: Refiner | None, checkpoint: Any, switch_at: Any) -> Refiner | None:
    """The refiner by its name, None for "None"; told: what an infotext says."""
    if checkpoint is not None and not isinstance(checkpoint, str):
        raise BadRequest("refiner_checkpoint must be a text: the name of a checkpoint, or None")
    if switch_at is not None and (not isinstance(switch_at, (int, float)) or isinstance(switch_at, bool)):
        raise BadRequest("refiner_switch_at must be a number from 0 to 1")
    name = (checkpoint or "").strip()
    if name.lower() in NONE:
        return None
    refiner = replace(told or Refiner(checkpoint=name), checkpoint=name, checkpoint_hash="")
    return refiner if switch_at is None else replace(refiner, switch_at=switch_at)


def _arguments(body: Generation) -> tuple[Any, Any, Any] | None:
    """[enable, checkpoint, switch at] of alwayson_scripts; what is missing at its end has its default. None: no such script."""
    for name, script in body.alwayson_scripts.items():
        if name.strip().lower() == TITLE:
            given = script.get("args") if isinstance(script, dict) else None
            if given is not None and (not isinstance(given, list) or len(given) > 3):
                raise BadRequest("the args of Refiner should be a list: [enable, checkpoint, switch at]")
            enable, checkpoint, switch_at = [*(given or []), *(False, "", None)[len(given or []) :]]
            return enable, checkpoint, switch_at
    return None


def _with_options(refiner: Refiner, overrides: dict[str, Any]) -> Refiner:
    """With the two options of override_settings."""
    by_steps, hires_pass = overrides.get("refiner_switch_by_sample_steps"), overrides.get("hires_fix_refiner_pass")
    if by_steps is not None:
        refiner = replace(refiner, by_steps=bool(by_steps))
    return refiner if hires_pass is None else replace(refiner, hires_pass=str(hires_pass))
