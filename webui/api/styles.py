"""What the page's editor of styles asks. Guests may not: styles are everybody's.

GET  /internal/styles -> {"styles": [{"name", "prompt", "negative_prompt", "file"}, ...], "files": where new ones may go}
POST /internal/styles {"name", "prompt", "negative_prompt", "was": its name until now, "file": for a new one} -> {}
POST /internal/styles/remove {"name"} -> {}
POST /internal/styles/applied {"names", "prompt", "negative_prompt"} -> {"prompt", "negative_prompt"} with these styles put in
"""

from typing import Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from webui.core.styles import MAX_LENGTH, Style, with_styles
from webui.service.service import Service


class Edited(BaseModel):
    """A style as its editor sends it."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""
    was: str = ""
    file: str = ""


class Chosen(BaseModel):
    """Prompts, and the styles to put into them."""

    names: list[str] = Field(max_length=100)
    prompt: str = Field("", max_length=MAX_LENGTH)
    negative_prompt: str = Field("", max_length=MAX_LENGTH)


def add_style_routes(router: APIRouter, service: Service) -> None:
    phrases = service.phrases

    @router.get("/styles")
    def styles() -> dict[str, Any]:
        return {"styles": [{**vars(kept.style), "file": kept.file} for kept in phrases.kept_styles()], "files": phrases.style_files()}

    @router.post("/styles")
    def save(edited: Edited) -> dict[str, str]:
        phrases.save_style(Style(edited.name, edited.prompt, edited.negative_prompt), edited.was, edited.file)
        return {}

    @router.post("/styles/remove")
    def remove(name: str = Body(embed=True)) -> dict[str, str]:
        phrases.remove_style(name)
        return {}

    @router.post("/styles/applied")
    def applied(chosen: Chosen) -> dict[str, str]:
        known = {style.name: style for style in phrases.styles()}
        picked = [known[name] for name in chosen.names if name in known]
        return {
            "prompt": with_styles(chosen.prompt, [style.prompt for style in picked]),
            "negative_prompt": with_styles(chosen.negative_prompt, [style.negative_prompt for style in picked]),
        }
