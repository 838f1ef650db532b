"""What the page asks about prompts while they are typed.

POST /internal/tokens {"prompts": {name: text}, "steps": 20} -> {name: {"used", "room"} or {"problem": sentence}}
"""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from webui.core.errors import BadRequest
from webui.service.service import Service
from webui.service.token_count import TokenCounter

LONGEST = 100_000  # characters of one prompt


class Typed(BaseModel):
    """The texts of some prompt fields."""

    prompts: dict[str, str] = Field(max_length=8)
    steps: int = Field(20, ge=1, le=1000)


def add_prompt_routes(router: APIRouter, service: Service) -> None:
    counter = TokenCounter(lambda: {file.stem: told.get("vectors") or 1 for file, told in service.models.files("embedding")})

    @router.post("/tokens")
    def tokens(typed: Typed) -> dict[str, Any]:
        told = service.preferences()
        rules = bool(told["enable_prompt_comments"]), int(told["comma_padding_backtrack"])
        return {name: _counted(counter, text, typed.steps, *rules) for name, text in typed.prompts.items()}


def _counted(counter: TokenCounter, text: str, steps: int, comments: bool, backtrack: int) -> dict[str, Any]:
    if len(text) > LONGEST:
        return {"problem": f"the prompt has more than {LONGEST} characters; shorten it"}
    try:
        return vars(counter.count(text, steps, comments, backtrack))
    except BadRequest as error:
        return {"problem": str(error)}
