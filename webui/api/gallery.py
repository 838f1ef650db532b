"""The saved pictures: search, favourites, tags, lineage, trash, thumbnails, ZIPs; what the page asks, and the same for programs.

Whose pictures: without credentials, and with the owner's, all saved pictures of this Easel, whichever browser or program made them;
`mine=1` narrows to those of `client`. A guest sees, and changes, only those of their own `client`.

GET  /internal/gallery?q=&checkpoint=&lora=&sampler=&tag=&size=&since=&until=&favourite=&missing=&trashed=&mine=&order=&client=
     &cursor=&count= -> {"pictures": [card, ...], "next": cursor of the next page or "", "revision", "upkeep": {"text", "done", "total"}}
GET  /internal/gallery/count?(the same) -> {"total"}
GET  /internal/gallery/facets -> {"checkpoints" | "samplers" | "sizes" | "loras" | "tags": [[name, how many], ...]}
GET  /internal/gallery/zip?ids=1,2,3 -> a ZIP, streamed
GET  /internal/gallery/{id} -> the card and "infotext", "made_from", "made_into": [{"relation", card}, ...]
GET  /internal/gallery/{id}/thumbnail?v= -> WebP, at most 256 pixels a side
POST /internal/gallery/change {"ids", "favourite", "add_tags", "remove_tags"} -> {}
POST /internal/gallery/trash, restore, delete, forget {"ids"} -> {"count"}; delete: for ever, out of the trash; forget: whose files are gone
POST /internal/gallery/empty-trash, look-again -> {"count"}, {}
POST /internal/gallery/again {"ids", "new_seed"} -> {"jobs": their ids}, of `client`, from the recipes in the files
GET  /api/v1/pictures (the same search), POST /api/v1/pictures/trash | restore | zip, PATCH /api/v1/pictures/{id} {"favourite", "tags"}

A card: {"id", "version", "ending", "name", "words": how the prompt begins, "seed", "width", "height", "sheet", "created", "favourite",
"tags", "checkpoint", "sampler", "missing", "trashed"}. Texts are data, never HTML. The text of a search is explained in
webui/service/gallery_search.py.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, Field

from webui.api.envelope import EnvelopeRoute
from webui.api.files import HEADERS
from webui.api.roles import is_guest
from webui.core import infotext
from webui.core.errors import BadRequest, MissingModel, NotAllowed
from webui.service.collection import Shown
from webui.service.gallery_search import Search
from webui.service.replay import recipe_of, to_run
from webui.service.service import Service

MOST_ZIPPED = 2000  # pictures that an address can name
BEGINNING = 200  # characters of a prompt on a card


class Ids(BaseModel):
    """Which pictures."""

    ids: Annotated[list[int], AfterValidator(lambda ids: list(dict.fromkeys(ids)))] = Field(examples=[[1, 2]])  # each once


class Changes(Ids):
    """What to change about several pictures."""

    favourite: bool | None = None
    add_tags: list[str] = []
    remove_tags: list[str] = []


class Again(Ids):
    """Which pictures to make again; new_seed: others like them."""

    new_seed: bool = False


class PictureChanges(BaseModel):
    """What to change about one picture; what is left out stays."""

    favourite: bool | None = Field(None, examples=[True])
    tags: list[str] | None = Field(None, description="All of its tags from now on.", examples=[["portrait"]])


def whose(request: Request, client: str = "") -> str | None:
    """The owner whose pictures alone this one may see; None: all. Raises NotAllowed."""
    if not is_guest(request):
        return None
    if not client:
        raise NotAllowed("guests see only the pictures of their own browser; name it as `client`")
    return client


Whose = Annotated[str | None, Depends(whose)]


def _asked(
    owner: Whose,
    client: str = "",
    q: Annotated[str, Query(description='Words of the prompt: `fox "red house" -snow negative:blurry`.')] = "",
    checkpoint: str = "",
    lora: str = "",
    sampler: str = "",
    tag: str = "",
    size: Annotated[str, Query(description="`512x768`, `portrait`, `landscape` or `square`.")] = "",
    since: Annotated[str, Query(description="First day, like `2026-03-31`.")] = "",
    until: Annotated[str, Query(description="Last day.")] = "",
    favourite: bool = False,
    missing: Annotated[bool, Query(description="Only pictures whose files are gone.")] = False,
    trashed: Annotated[bool, Query(description="Those in the trash instead of the others.")] = False,
    mine: Annotated[bool, Query(description="Only those of `client`.")] = False,
    order: Annotated[str, Query(description="`newest`, `oldest`, `largest` or `smallest`.")] = "newest",
) -> Search:
    return Search(
        text=q,
        checkpoint=checkpoint,
        lora=lora,
        sampler=sampler,
        tag=tag,
        size=size,
        since=since,
        until=until,
        favourite=favourite,
        missing=missing,
        trashed=trashed,
        owner=client if mine else owner,
        order=order,
    )


Asked = Annotated[Search, Depends(_asked)]


def add_gallery_routes(router: APIRouter, service: Service) -> None:
    """Put the page's routes on the router of /internal."""
    _add_reading(router, service)
    _add_files(router, service)
    _add_changing(router, service)
    _add_trash(router, service)


def pictures_router(service: Service) -> APIRouter:
    """The same for programs: search, trash, restore, ZIP, favourite and tags."""
    router = APIRouter(prefix="/api/v1/pictures", route_class=EnvelopeRoute, tags=["pictures"])
    collection = service.collection

    @router.get("", summary="Search the saved pictures")
    def search(asked: Asked, cursor: str = "", count: int = 100, with_total: bool = False) -> dict[str, Any]:
        """Pages by cursor: pass the `next` of one answer as `cursor` of the next question; "" after the last page."""
        page = collection.search(asked, cursor, count)
        total = {"total": collection.count(asked)} if with_total else {}
        return {"pictures": [as_json(shown) for shown in page.pictures], "next": page.next, **total}

    @router.post("/trash", summary="Put pictures into the trash")
    def trash(chosen: Ids, owner: Whose) -> dict[str, int]:
        collection.trash(chosen.ids, owner)
        return {"count": len(chosen.ids)}

    @router.post("/restore", summary="Bring pictures back from the trash")
    def restore(chosen: Ids, owner: Whose) -> dict[str, int]:
        collection.restore(chosen.ids, owner)
        return {"count": len(chosen.ids)}

    @router.post("/zip", summary="Several pictures as one ZIP", response_class=StreamingResponse)
    def zipped(chosen: Ids, owner: Whose) -> StreamingResponse:
        return _zip(collection.zipped(chosen.ids, owner))

    @router.patch("/{picture_id}", summary="Favourite and tags of a picture")
    def change(picture_id: int, changes: PictureChanges, owner: Whose) -> dict[str, Any]:
        if changes.tags is not None:
            collection.set_tags(picture_id, changes.tags, owner)
        if changes.favourite is not None:
            collection.set_favourite([picture_id], changes.favourite, owner)
        return as_json(collection.get(picture_id, owner))

    return router


def _add_reading(router: APIRouter, service: Service) -> None:
    collection = service.collection

    @router.get("/gallery")
    def search(asked: Asked, cursor: str = "", count: int = 100) -> dict[str, Any]:
        revision = collection.revision  # asked first: what changes meanwhile is told again
        page = collection.search(asked, cursor, count)
        cards = [as_json(shown) for shown in page.pictures]
        return {"pictures": cards, "next": page.next, "revision": revision, "upkeep": asdict(collection.upkeeping)}

    @router.get("/gallery/count")
    def count(asked: Asked) -> dict[str, int]:
        return {"total": collection.count(asked)}

    @router.get("/gallery/facets")
    def facets(owner: Whose) -> dict[str, list[tuple[str, int]]]:
        return collection.facets(owner)


def _add_files(router: APIRouter, service: Service) -> None:
    collection = service.collection

    @router.get("/gallery/zip")
    def zipped(ids: str, owner: Whose) -> StreamingResponse:
        return _zip(collection.zipped(_listed(ids), owner))

    @router.get("/gallery/{picture_id}/thumbnail")
    def thumbnail(picture_id: int, owner: Whose) -> Response:
        return Response(collection.thumbnail(picture_id, owner), media_type="image/webp", headers=HEADERS)

    @router.get("/gallery/{picture_id}")
    def picture(picture_id: int, owner: Whose) -> dict[str, Any]:
        shown = collection.get(picture_id, owner)
        parents, children = collection.relatives(picture_id, owner)
        return {
            **as_json(shown),
            "infotext": shown.picture.infotext,
            "made_from": [{"relation": relation, **as_json(each)} for relation, each in parents],
            "made_into": [{"relation": relation, **as_json(each)} for relation, each in children],
        }


def _add_changing(router: APIRouter, service: Service) -> None:
    collection = service.collection

    @router.post("/gallery/change")
    def change(changes: Changes, owner: Whose) -> dict[str, Any]:
        if changes.add_tags or changes.remove_tags:
            collection.tag(changes.ids, changes.add_tags, changes.remove_tags, owner)
        if changes.favourite is not None:
            collection.set_favourite(changes.ids, changes.favourite, owner)
        return {}

    @router.post("/gallery/again")
    def again(order: Again, owner: Whose, client: str = "") -> dict[str, list[str]]:
        recipes = [recipe_of(_content(collection.get(number, owner))) for number in order.ids]
        requests = [to_run(recipe, service.catalog, service.input_path) for recipe in recipes]
        if order.new_seed:
            requests = [replace(request, seed=-1, variation_seed=-1) for request in requests]
        return {"jobs": [service.submit(request, owner=client) for request in requests]}

    @router.post("/gallery/look-again")
    def look_again(owner: Whose) -> dict[str, Any]:
        if owner is not None:
            raise NotAllowed("guests cannot have the folders looked through; ask the owner of this Easel")
        collection.look_again()
        return {}


def _add_trash(router: APIRouter, service: Service) -> None:
    collection = service.collection

    @router.post("/gallery/trash")
    def trash(chosen: Ids, owner: Whose) -> dict[str, int]:
        collection.trash(chosen.ids, owner)
        return {"count": len(chosen.ids)}

    @router.post("/gallery/restore")
    def restore(chosen: Ids, owner: Whose) -> dict[str, int]:
        collection.restore(chosen.ids, owner)
        return {"count": len(chosen.ids)}

    @router.post("/gallery/delete")
    def delete(chosen: Ids, owner: Whose) -> dict[str, int]:
        return {"count": collection.delete(chosen.ids, owner)}

    @router.post("/gallery/forget")
    def forget(chosen: Ids, owner: Whose) -> dict[str, int]:
        return {"count": collection.forget(chosen.ids, owner)}

    @router.post("/gallery/empty-trash")
    def empty_trash(owner: Whose) -> dict[str, int]:
        return {"count": collection.empty_trash(owner)}


def as_json(shown: Shown) -> dict[str, Any]:
    """A card."""
    picture = shown.picture
    return {
        "id": picture.id,
        "version": f"{picture.created:.6f}",  # in its address: another database may have another picture of this id
        "ending": picture.path.suffix,
        "name": picture.path.name,
        "words": infotext.read(picture.infotext).prompt[:BEGINNING],
        "seed": str(picture.seed),
        "width": picture.width,
        "height": picture.height,
        "sheet": picture.sheet,
        "created": picture.created,
        "favourite": shown.favourite,
        "tags": list(shown.tags),
        "checkpoint": shown.checkpoint,
        "sampler": shown.sampler,
        "missing": shown.missing,
        "trashed": shown.trashed,
    }


def _content(shown: Shown) -> bytes:
    """Raises MissingModel."""
    try:
        return shown.picture.path.read_bytes()
    except OSError:
        raise MissingModel(f"the file of picture {shown.picture.id} is not there any more: {shown.picture.path.name}") from None


def _zip(pieces: Iterator[bytes]) -> StreamingResponse:
    headers = {"Content-Disposition": 'attachment; filename="easel-pictures.zip"', "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)


def _listed(ids: str) -> list[int]:
    parts = ids.split(",")
    if len(parts) > MOST_ZIPPED:
        raise BadRequest(f"{len(parts)} pictures are too many for one ZIP; choose at most {MOST_ZIPPED}")
    try:
        return [int(part) for part in parts]
    except ValueError:
        raise BadRequest("ids are whole numbers with commas between them, like 12,13") from None
