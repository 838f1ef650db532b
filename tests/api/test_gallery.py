"""webui/api/gallery.py: the gallery's routes for the page, and the same for programs."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.api.conftest import PATIENCE, until
from webui.api.gallery import pictures_router
from webui.api.internal import internal_router
from webui.api.roles import GUEST
from webui.core.request import GenerationRequest, InitImage
from webui.service.service import Service

ME, OTHER = "browser-one", "browser-two"


class AsGuest:
    """What the guard does for a guest."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, GUEST: True}, receive, send)


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    made = FastAPI()
    made.include_router(internal_router(service))
    made.include_router(pictures_router(service))
    return made


@pytest.fixture(scope="module")
def page(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def guest(app: FastAPI) -> TestClient:
    return TestClient(AsGuest(app))


def make(service: Service, prompt: str, owner: str = ME, **fields: Any) -> int:
    """The id of a new picture."""
    request = GenerationRequest(prompt=prompt, width=64, height=64, steps=2, **fields)
    return service.wait(service.submit(request, owner=owner), PATIENCE).pictures[0].id


def found(http: TestClient, route: str = "/internal/gallery", /, **asked: Any) -> list[int]:
    reply = http.get(route, params=asked)
    assert reply.status_code == 200, reply.text
    return [card["id"] for card in reply.json()["pictures"]]


@pytest.mark.parametrize("route", ["/internal/gallery", "/api/v1/pictures"])
def test_pictures_are_searched_and_paged(page: TestClient, service: Service, route: str) -> None:
    mark = f"pagemark{len(route)}"
    numbers = [make(service, f"{mark} {index}") for index in range(3)]
    first = page.get(route, params={"q": mark, "count": 2}).json()
    second = page.get(route, params={"q": mark, "count": 2, "cursor": first["next"]}).json()
    assert [card["id"] for card in first["pictures"] + second["pictures"]] == numbers[::-1]
    assert (second["next"], first["pictures"][0]["words"]) == ("", f"{mark} 2")
    assert found(page, route, q=mark, order="oldest") == numbers


def test_the_number_of_pictures_is_a_question_of_its_own(page: TestClient, service: Service) -> None:
    make(service, "countme")
    assert page.get("/internal/gallery/count", params={"q": "countme"}).json() == {"total": 1}
    assert page.get("/api/v1/pictures", params={"q": "countme", "with_total": True}).json()["total"] == 1
    assert "total" not in page.get("/api/v1/pictures", params={"q": "countme"}).json()


@pytest.mark.parametrize("asked", [{"order": "x"}, {"count": 0}, {"size": "9"}, {"since": "x"}, {"cursor": "x"}, {"count": "many"}])
def test_what_cannot_be_asked_is_refused_with_a_sentence(page: TestClient, asked: dict[str, Any]) -> None:
    for route in ("/internal/gallery", "/api/v1/pictures"):
        reply = page.get(route, params=asked)
        assert reply.status_code == 422
        assert len(reply.json()["errors"]) > 10


def test_a_picture_tells_text_and_relatives(page: TestClient, service: Service) -> None:
    parent = make(service, "parent picture")
    source = service.add_input(service.picture(parent).path.read_bytes())
    child = make(service, "child picture", init=InitImage(image=source))
    told = page.get(f"/internal/gallery/{child}").json()
    assert told["infotext"].startswith("child picture")
    assert [(each["relation"], each["id"]) for each in told["made_from"]] == [("img2img", parent)]
    assert [each["id"] for each in page.get(f"/internal/gallery/{parent}").json()["made_into"]] == [child]


def test_a_thumbnail_is_small_and_may_be_kept_for_ever(page: TestClient, service: Service) -> None:
    reply = page.get(f"/internal/gallery/{make(service, 'small')}/thumbnail")
    with Image.open(io.BytesIO(reply.content)) as image:
        assert (image.format, max(image.size) <= 256) == ("WEBP", True)
    assert "immutable" in reply.headers["cache-control"]
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("prefix", ["/internal/gallery", "/api/v1/pictures"])
def test_trash_and_back(page: TestClient, service: Service, prefix: str) -> None:
    number = make(service, "away")
    assert [page.post(f"{prefix}/trash", json={"ids": [number, number]}).json() for _ in range(2)] == [{"count": 1}] * 2
    assert number not in found(page)
    assert number in found(page, trashed=True)
    page.post(f"{prefix}/restore", json={"ids": [number]})
    assert number in found(page)


def test_the_trash_is_emptied_by_hand(page: TestClient, service: Service) -> None:
    one, two = make(service, "one"), make(service, "two")
    page.post("/internal/gallery/trash", json={"ids": [one, two]})
    assert page.post("/internal/gallery/delete", json={"ids": [one]}).json() == {"count": 1}
    assert page.post("/internal/gallery/empty-trash").json()["count"] >= 1
    assert found(page, trashed=True) == []
    assert page.get(f"/internal/gallery/{two}").status_code == 404


def test_a_missing_picture_has_no_thumbnail_and_can_be_forgotten(page: TestClient, service: Service) -> None:
    number = make(service, "vanish")
    assert page.post("/internal/gallery/forget", json={"ids": [number]}).status_code == 422
    service.picture(number).path.unlink()
    assert next(card for card in page.get("/internal/gallery").json()["pictures"] if card["id"] == number)["missing"]
    assert page.get(f"/internal/gallery/{number}/thumbnail").status_code == 404
    assert page.post("/internal/gallery/forget", json={"ids": [number]}).json() == {"count": 1}


@pytest.mark.parametrize("word", ["GET", "POST"])
def test_several_pictures_come_as_one_zip(page: TestClient, service: Service, word: str) -> None:
    numbers = [make(service, "zip"), make(service, "zip")]
    if word == "GET":
        reply = page.get("/internal/gallery/zip", params={"ids": ",".join(map(str, numbers))})
    else:
        reply = page.post("/api/v1/pictures/zip", json={"ids": numbers})
    assert reply.headers["content-type"] == "application/zip"
    assert "attachment" in reply.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [service.picture(number).path.read_bytes() for number in numbers]


@pytest.mark.parametrize("ids", ["", "x", "1,", "1;2", ",".join(["1"] * 2001), "99999999999999999999999"])
def test_a_zip_of_nothing_known_is_refused(page: TestClient, ids: str) -> None:
    assert page.get("/internal/gallery/zip", params={"ids": ids}).status_code in (404, 422)


def test_several_pictures_are_changed_at_once(page: TestClient, service: Service) -> None:
    numbers = [make(service, "change"), make(service, "change")]
    body = {"ids": numbers, "favourite": True, "add_tags": ["<b>"]}
    assert page.post("/internal/gallery/change", json=body).status_code == 200
    assert set(found(page, favourite=True, tag="<b>")) == set(numbers)
    page.post("/internal/gallery/change", json={"ids": numbers[:1], "remove_tags": ["<b>"]})
    assert found(page, tag="<b>") == numbers[1:]


def test_a_program_sets_favourite_and_tags_of_one_picture(page: TestClient, service: Service) -> None:
    number = make(service, "patch")
    told = page.patch(f"/api/v1/pictures/{number}", json={"favourite": True, "tags": ["b", "a"]}).json()
    assert (told["favourite"], told["tags"]) == (True, ["a", "b"])
    told = page.patch(f"/api/v1/pictures/{number}", json={"tags": []}).json()
    assert (told["favourite"], told["tags"]) == (True, [])
    assert page.patch("/api/v1/pictures/999999", json={"favourite": True}).status_code == 404


def test_the_owner_sees_every_picture_and_mine_narrows(page: TestClient, service: Service) -> None:
    mine, theirs = make(service, "whosemark"), make(service, "whosemark", OTHER)
    assert set(found(page, q="whosemark", client=ME)) == {mine, theirs}
    assert found(page, q="whosemark", client=ME, mine=True) == [mine]


def test_a_guest_sees_and_changes_only_their_own(guest: TestClient, service: Service) -> None:
    mine, theirs = make(service, "guestmark"), make(service, "guestmark", OTHER)
    assert found(guest, q="guestmark", client=ME) == [mine]
    assert found(guest, "/api/v1/pictures", q="guestmark", client=OTHER, mine=True) == [theirs]
    asked = {"client": ME}
    for route in (f"/internal/gallery/{theirs}", f"/internal/gallery/{theirs}/thumbnail"):
        assert guest.get(route, params=asked).status_code == 403
    assert guest.get("/internal/gallery/zip", params={"ids": theirs, **asked}).status_code == 403
    for route in ("/internal/gallery/trash", "/internal/gallery/change", "/api/v1/pictures/trash", "/api/v1/pictures/zip"):
        assert guest.post(route, params=asked, json={"ids": [theirs], "favourite": True}).status_code == 403
    assert guest.patch(f"/api/v1/pictures/{theirs}", params=asked, json={"tags": ["x"]}).status_code == 403
    assert guest.post("/internal/gallery/look-again", params=asked).status_code == 403
    assert guest.get(f"/internal/gallery/{mine}/thumbnail", params=asked).status_code == 200
    assert guest.get("/internal/gallery").status_code == 403


def test_facets_tell_what_there_is(page: TestClient, service: Service) -> None:
    page.post("/internal/gallery/change", json={"ids": [make(service, "facet")], "add_tags": ["faceted"]})
    told = page.get("/internal/gallery/facets").json()
    assert ["64x64", told["sizes"][0][1]] in told["sizes"]
    assert ["faceted", 1] in told["tags"]


def test_pictures_are_made_again_and_others_like_them(page: TestClient, service: Service) -> None:
    number = make(service, "againmark", seed=77)
    jobs = []
    for new_seed in (False, True):
        body = {"ids": [number], "new_seed": new_seed}
        jobs += page.post("/internal/gallery/again", params={"client": ME}, json=body).json()["jobs"]
    same, other = [service.wait(job, PATIENCE).pictures[0] for job in jobs]
    assert same.seed == 77 != other.seed
    assert (same.owner, other.infotext.split("\n")[0]) == (ME, "againmark")
    told = page.get(f"/internal/gallery/{same.id}").json()
    assert [(each["relation"], each["id"]) for each in told["made_from"]] == [("replay", number)]


def test_what_has_no_file_or_no_recipe_cannot_be_made_again(page: TestClient, service: Service) -> None:
    number = make(service, "lost recipe")
    path = service.picture(number).path
    Image.new("RGB", (8, 8)).save(path)
    reply = page.post("/internal/gallery/again", json={"ids": [number]})
    assert (reply.status_code, "no recipe" in reply.json()["errors"]) == (422, True)
    path.unlink()
    reply = page.post("/internal/gallery/again", json={"ids": [number]})
    assert (reply.status_code, "not there any more" in reply.json()["errors"]) == (404, True)


def test_looking_again_ends(page: TestClient, service: Service) -> None:
    assert page.post("/internal/gallery/look-again").status_code == 200
    until(lambda: page.get("/internal/gallery").json()["upkeep"]["text"] == "")


def test_a_page_is_told_of_pictures_that_anybody_made(page: TestClient, service: Service) -> None:
    with page.websocket_connect(f"/internal/ws/{ME}") as socket:
        socket.receive_json()
        number = make(service, "news", OTHER)
        told = {}
        while "gallery" not in told or told["gallery"] < service.collection.revision:
            told = socket.receive_json()
        assert number in found(page)
