"""What the settings tab asks.

GET    /internal/settings -> {"sections": {title: [row, ...]}, "presets": [name, ...]}; a row has "name", "value", "default", "sentence",
       "choices", "minimum" and "maximum"
POST   /internal/settings {"values": {name: value}} -> {} once all are set; nothing is if one is wrong
POST   /internal/settings/compare {"values": {...}} or {"preset": name} -> {"changes": {name: [now, then]}, "same", "unknown", "wrong"}
GET    /internal/settings/file -> those that differ from their defaults, as a JSON file
PUT    /internal/settings/presets/{name}, DELETE the same -> {}
"""

import json
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from webui.core.preferences import PREFERENCES, SECTIONS
from webui.core.text_encoders import KINDS
from webui.service.service import Service

TEXT_ENCODERS = {kind.preference: kind for kind in KINDS}
BY_NAME = {preference.name: preference for preference in PREFERENCES}


class Values(BaseModel):
    """Preferences to set, or to look at first."""

    values: dict[str, Any] = Field(default_factory=dict, max_length=2000)


class Compared(Values):
    """preset: a name, in place of values; what it does not hold goes back to its default."""

    preset: str = ""


def add_preference_routes(router: APIRouter, service: Service) -> None:
    @router.get("/settings")
    def settings() -> dict[str, Any]:
        now = service.preferences()
        return {
            "sections": {title: [_row(name, now[name], service) for name in names] for title, names in SECTIONS.items()},
            "presets": service.presets.names(),
        }

    @router.post("/settings")
    def set_settings(values: Values) -> dict[str, str]:
        service.set_preferences(values.values)
        return {}

    @router.post("/settings/compare")
    def compare(asked: Compared) -> dict[str, Any]:
        values = service.presets.get(asked.preset) if asked.preset else asked.values
        return vars(service.presets.compared(values, whole=bool(asked.preset)))

    @router.get("/settings/file")
    def settings_file() -> Response:
        own = {name: value for name, value in service.preferences().items() if value != BY_NAME[name].default}
        headers = {"Content-Disposition": 'attachment; filename="easel-settings.json"'}
        return Response(json.dumps(own, indent=2, ensure_ascii=False), media_type="application/json", headers=headers)

    @router.put("/settings/presets/{name}")
    def keep_preset(name: str) -> dict[str, str]:
        service.presets.keep(name)
        return {}

    @router.delete("/settings/presets/{name}")
    def remove_preset(name: str) -> dict[str, str]:
        service.presets.remove(name)
        return {}


def _row(name: str, value: Any, service: Service) -> dict[str, Any]:
    preference = BY_NAME[name]
    choices: list[str] | None = list(preference.choices) if preference.choices else None
    if name == "sd_model_checkpoint":
        choices = ["", *(file.name for file in service.catalog.checkpoints())]
    elif name == "sd_vae":
        choices = ["Automatic", "None", *(file.name for file in service.catalog.vaes())]
    elif name in TEXT_ENCODERS:
        choices = ["", *(file.name for file in service.catalog.text_encoders.listed(TEXT_ENCODERS[name]))]
    return {
        "name": name,
        "value": value,
        "default": preference.default,
        "sentence": preference.sentence,
        "choices": choices,
        "minimum": preference.minimum,
        "maximum": preference.maximum,
    }
