"""Options of prompts and guidance that a request sends for itself, by the names that they have among the preferences."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from webui.api.schemas import Generation, Img2Img
from webui.core.errors import BadRequest
from webui.core.guidance_options import GUIDANCE, preferred_guidance
from webui.core.preferences import IMG2IMG_MERGING, PREFERENCES
from webui.core.request import GenerationRequest

# Forge's scripts by title: the options that their arguments set, in order.
FORGE_SCRIPTS = {
    "freeu integrated": ("freeu_enabled", "freeu_b1", "freeu_b2", "freeu_s1", "freeu_s2"),
    "perturbed attention guidance integrated": ("", "pag_scale"),
}
PAG_SCALE = 3.0  # where the switch stands alone


def scripts_options(body: Generation) -> dict[str, Any]:
    """What alwayson_scripts say by Forge's titles and positional arguments, the first of which is a switch. Raises BadRequest."""
    told: dict[str, Any] = {}
    for title, script in body.alwayson_scripts.items():
        names = FORGE_SCRIPTS.get(title.strip().lower())
        if names is None:
            continue
        given = script.get("args") if isinstance(script, dict) else None
        if given is not None and (not isinstance(given, list) or len(given) > len(names)):
            raise BadRequest(f"the args of {title[:50]} should be a list of at most {len(names)}: a switch, then numbers")
        if given and given[0]:
            told |= {"pag_scale": PAG_SCALE} if "pag_scale" in names else {}
            told |= {name: value for name, value in zip(names, given, strict=False) if name}
    return told


def with_guidance(request: GenerationRequest, body: Generation, preferences: Mapping[str, Any]) -> GenerationRequest:
    """`request` with the options of prompts and guidance that `body` sends; what it does not send is told or preferred."""
    sent = {name: body.override_settings.get(name) for name in (option.name for option in GUIDANCE)}
    sent |= {name: value for name, value in scripts_options(body).items() if sent[name] is None}
    if sent["s_min_uncond"] is None:
        sent["s_min_uncond"] = body.s_min_uncond
    if isinstance(body, Img2Img) and not sent["token_merging_ratio"]:
        merging = body.override_settings.get(IMG2IMG_MERGING)
        of_all = request.guidance.token_merging if request.guidance else 0
        sent["token_merging_ratio"] = merging or of_all or preferences.get(IMG2IMG_MERGING) or sent["token_merging_ratio"]
    told = {option.name: getattr(request.guidance, option.field) for option in GUIDANCE} if request.guidance else dict(preferences)
    checked = {row.name: row.check(sent[row.name]) for row in PREFERENCES if sent.get(row.name) is not None}
    return replace(request, guidance=preferred_guidance(told | checked)) if checked else request
