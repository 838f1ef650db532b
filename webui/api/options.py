"""Options of prompts and guidance that a request sends for itself, by the names that they have among the preferences."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from webui.api.schemas import Generation, Img2Img
from webui.core.guidance_options import GUIDANCE, preferred_guidance
from webui.core.preferences import IMG2IMG_MERGING, PREFERENCES
from webui.core.request import GenerationRequest


def with_guidance(request: GenerationRequest, body: Generation, preferences: Mapping[str, Any]) -> GenerationRequest:
    """`request` with the options of prompts and guidance that `body` sends; what it does not send is told or preferred."""
    sent = {name: body.override_settings.get(name) for name in (option.name for option in GUIDANCE)}
    if sent["s_min_uncond"] is None:
        sent["s_min_uncond"] = body.s_min_uncond
    if isinstance(body, Img2Img) and not sent["token_merging_ratio"]:
        merging = body.override_settings.get(IMG2IMG_MERGING)
        of_all = request.guidance.token_merging if request.guidance else 0
        sent["token_merging_ratio"] = merging or of_all or preferences.get(IMG2IMG_MERGING) or sent["token_merging_ratio"]
    told = {option.name: getattr(request.guidance, option.field) for option in GUIDANCE} if request.guidance else dict(preferences)
    checked = {row.name: row.check(sent[row.name]) for row in PREFERENCES if sent.get(row.name) is not None}
    return replace(request, guidance=preferred_guidance(told | checked)) if checked else request
