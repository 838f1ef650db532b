"""What the page's model cards and its prompt autocomplete ask.

`kind` is checkpoint, vae, lora, embedding or hypernetwork; `name` is a card's, quoted.

GET  /internal/models?kind=lora&q=&family=&folder=&sort=name|date|size&down=0|1&page=0&count=60&checkpoint=
     -> {"total": models on all pages, "scanning": whether more may come soon, "models": [card, ...]}
GET  /internal/models/{kind}/{name}/thumbnail -> a small WebP; the address in a card changes with the picture, so it may be cached for ever
GET  /internal/models/{kind}/{name}/details   -> the card and "metadata": [[name, value], ...]
POST /internal/models/{kind}/{name}/sidecar   {"description", "triggers", "negative", "weight", "notes", "vae"}, any -> the new card
POST /internal/models/{kind}/{name}/thumbnail {"picture": id of a finished picture} -> the new card
POST /internal/models/merge {"recipe": fields of core.model_orders.MergeRecipe, "client": ""} -> {"job": its id}
POST /internal/models/save  {"order": fields of core.model_orders.SaveOrder, "client": ""} -> {"job": its id}
POST /internal/models/refresh -> {} once the folders are listed; what is in new files comes a little later ("scanning")
GET  /internal/complete?text=<lora:na -> {"models": [{"kind", "name", "title", "insert", "triggers", "family"}, ...]}, the best 20,
     then at most 20 of the user's wildcards (kind wildcard, for __na) or styles (kind style)

A card: {"kind", "name", "title", "insert": what a click puts into the prompt, with the preferred weight ("" for checkpoints, VAEs and
names that no prompt can hold), "triggers": words to add to the prompt, "negative": words for the negative one, "family": sd1, sd2, sdxl,
sdxl_refiner, miniature or "", "family_title", "size": bytes, "mtime": unix seconds, "hash", "thumbnail": an address or "", "description",
"notes", "base": the base model in somebody's words, "weight", "problem": why it cannot be used or "", "warnings": sentences about
sidecars, "vae", "prediction_type", "native_size": what a checkpoint is used with, "seen": false while the file was only listed}; in lists
also "skipped": why it does nothing with the checkpoint named, or "". family=unknown finds models of which nothing tells it.
Texts are data, never HTML.
"""

from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Body, Depends, Response

from webui.api.files import HEADERS
from webui.core.errors import BadRequest, MissingModel
from webui.core.family import FAMILIES, Family
from webui.core.model_orders import MergeRecipe, SaveOrder
from webui.service.model_rows import MENTIONED, Card, CardSearch
from webui.service.service import Service

COMPLETED = ("kind", "name", "title", "insert", "triggers", "family")


def add_model_routes(router: APIRouter, service: Service) -> None:
    """Put the routes above on the router of /internal."""
    _add_reading(router, service)
    _add_changing(router, service)


def _add_reading(router: APIRouter, service: Service) -> None:
    @router.get("/models")
    def models(asked: Annotated[CardSearch, Depends()], checkpoint: str = "") -> dict[str, Any]:
        found = service.models.search(asked)
        chosen = _family_of(service, checkpoint)
        cards = [{**as_json(card), "skipped": _skipped(card, chosen)} for card in found.cards]
        return {"total": found.total, "scanning": found.scanning, "models": cards, "folders": found.folders}

    @router.get("/models/{kind}/{name:path}/thumbnail")
    def thumbnail(kind: str, name: str) -> Response:
        data = service.models.thumbnail(kind, name)
        return Response(data, media_type="image/webp", headers=HEADERS)

    @router.get("/models/{kind}/{name:path}/details")
    def details(kind: str, name: str) -> dict[str, Any]:
        return {**as_json(service.models.card(kind, name)), "metadata": service.models.metadata(kind, name)}

    @router.get("/complete")
    def complete(text: str = "") -> dict[str, Any]:
        cards = [as_json(card) for card in service.models.completions(text)]
        found = [{key: card[key] for key in COMPLETED} for card in cards if card["insert"]]
        phrases = service.phrases.completions(text)
        found += [{**dict.fromkeys(COMPLETED, ""), "kind": kind, "name": name, "title": name, "insert": put} for kind, name, put in phrases]
        return {"models": found}


def _add_changing(router: APIRouter, service: Service) -> None:
    @router.post("/models/merge")
    def merge(recipe: Annotated[MergeRecipe, Body()], client: Annotated[str, Body()] = "") -> dict[str, str]:
        return {"job": service.submit(recipe, owner=client)}

    @router.post("/models/save")
    def save(order: Annotated[SaveOrder, Body()], client: Annotated[str, Body()] = "") -> dict[str, str]:
        return {"job": service.submit(order, owner=client)}

    @router.post("/models/refresh")
    def refresh() -> dict[str, Any]:
        service.refresh_models()
        return {}

    @router.post("/models/{kind}/{name:path}/sidecar")
    def edit(kind: str, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        return as_json(service.models.edit(kind, name, changes))

    @router.post("/models/{kind}/{name:path}/thumbnail")
    def set_thumbnail(kind: str, name: str, picture: int = Body(embed=True)) -> dict[str, Any]:
        if not 0 <= picture < 2**63:
            raise BadRequest(f"there is no picture {picture}")
        return as_json(service.models.set_thumbnail(kind, name, service.picture(picture).path))


def _family_of(service: Service, checkpoint: str) -> Family | None:
    try:
        return service.catalog.find_checkpoint(checkpoint).family
    except MissingModel:  # the page's list may be older than the folder
        return None


def _skipped(card: Card, chosen: Family | None) -> str:
    """Why the model does nothing with the checkpoint that is chosen, "" where it fits or where nobody can tell."""
    family = FAMILIES.get(card.family)
    if card.kind not in MENTIONED or family is None or chosen is None or family.config.split("_")[0] == chosen.config.split("_")[0]:
        return ""
    return f"made for {family.title}, the checkpoint is {chosen.title}"


def as_json(card: Card) -> dict[str, Any]:
    """A card as the page gets it."""
    address = f"models/{card.kind}/{quote(card.name)}/thumbnail?v={card.thumbnail}" if card.thumbnail else ""
    family = FAMILIES.get(card.family)
    return {**asdict(card), "family_title": family.title if family else "", "thumbnail": f"/internal/{address}" if address else ""}
