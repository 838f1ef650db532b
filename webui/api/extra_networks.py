"""/sd_extra_networks: pictures and metadata of models, as A1111's cards ask for them; found in the table of models, not on disk."""

import json
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from webui.api.envelope import EnvelopeRoute
from webui.core.errors import MissingModel
from webui.core.model_listing import without_ending
from webui.service.service import Service

PAGES = {
    "checkpoints": "checkpoint",
    "lora": "lora",
    "hypernetworks": "hypernetwork",
    "textual inversion": "embedding",
    "textual_inversion": "embedding",
}
PREVIEWS = (".preview", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def extra_networks_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/sd_extra_networks", route_class=EnvelopeRoute, include_in_schema=False)

    @router.get("/thumb")
    def thumb(filename: str = "") -> Response:
        return _picture(service, *_by_file(service, filename))

    @router.get("/metadata")
    def told(page: str = "", item: str = "") -> dict[str, Any]:
        kind, name = _named(service, page, item)
        rows = dict(service.models.metadata(kind, name))
        return {"metadata": json.dumps(rows, indent=4, ensure_ascii=False)} if rows else {}

    @router.get("/cover-images")
    def cover(page: str = "", item: str = "", index: int = 0) -> Response:
        kind, name = _named(service, page, item)
        if index:
            raise MissingModel(f"{name} has one picture at most; ask for index 0")
        return _picture(service, kind, name)

    return router


def _named(service: Service, page: str, item: str) -> tuple[str, str]:
    """Kind and card's name of a model that a page lists by its bare name. Raises MissingModel."""
    kind = PAGES.get(page.strip().lower())
    if kind is None:
        raise MissingModel(f"there is no page {page[:50]!r}; choose one of: {', '.join(PAGES)}")
    for file, _ in service.models.files(kind):
        if item in (file.stem, file.name):
            return kind, file.name
    raise MissingModel(f"there is no {kind} {item[:100]!r}; refresh the list")


def _by_file(service: Service, filename: str) -> tuple[str, str]:
    """Kind and name of the model to which a preview belongs, by the preview's path or the model's own. Raises MissingModel."""
    wanted = _bare(filename)
    for kind in dict.fromkeys(PAGES.values()):
        for file, _ in service.models.files(kind):
            if without_ending(str(file.path)) == wanted:
                return kind, file.name
    raise MissingModel(f"{PurePath(filename).name[:100]!r} is no picture of a model that is listed here")


def _bare(path: str) -> str:
    """A path without the endings of previews and of models."""
    shorter = next((path[: -len(ending)] for ending in PREVIEWS if path.lower().endswith(ending)), path)
    return shorter if shorter == path else _bare(shorter)


def _picture(service: Service, kind: str, name: str) -> Response:
    """Where the small picture is; the address changes with the picture. Raises MissingModel where there is none."""
    card = service.models.card(kind, name)
    if not card.thumbnail:
        raise MissingModel(f"{name} has no picture")
    return RedirectResponse(f"../internal/models/{kind}/{quote(name)}/thumbnail?v={card.thumbnail}")
