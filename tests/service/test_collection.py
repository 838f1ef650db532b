"""webui/service/collection.py: what may be asked and done, and by whom."""

import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.service.handlers import picture, small
from tests.service.shelf import JOB, Shelf, opened
from webui.core.errors import BadRequest, MissingModel, NotAllowed
from webui.service.collection import MAX_TAG, MOST_AT_ONCE, Collection
from webui.service.gallery_search import Search

Order = Callable[[Collection, list[int], str | None], object]
ORDERS: dict[str, Order] = {
    "favourite": lambda collection, numbers, owner: collection.set_favourite(numbers, True, owner),
    "tag": lambda collection, numbers, owner: collection.tag(numbers, ["x"], owner=owner),
    "set_tags": lambda collection, numbers, owner: collection.set_tags(numbers[-1], ["x"], owner),
    "trash": lambda collection, numbers, owner: collection.trash(numbers, owner),
    "restore": lambda collection, numbers, owner: collection.restore(numbers, owner),
    "delete": lambda collection, numbers, owner: collection.delete(numbers, owner),
    "forget": lambda collection, numbers, owner: collection.forget(numbers, owner),
    "zip": lambda collection, numbers, owner: collection.zipped(numbers, owner),
    "get": lambda collection, numbers, owner: collection.get(numbers[-1], owner),
    "relatives": lambda collection, numbers, owner: collection.relatives(numbers[-1], owner),
    "thumbnail": lambda collection, numbers, owner: collection.thumbnail(numbers[-1], owner),
}


def ids(shelf: Shelf, **search: object) -> list[int]:
    return [each.picture.id for each in shelf.collection.search(Search(**search)).pictures]  # type: ignore[arg-type]


def test_a_saved_picture_is_found_at_once_by_what_it_says(shelf: Shelf) -> None:
    (fox,) = shelf.seeds(1, prompt="a red fox")
    (cat,) = shelf.seeds(2, prompt="ein Häuschen 猫")
    assert ids(shelf) == [cat.id, fox.id]
    assert ids(shelf, text="fox") == [fox.id]
    assert ids(shelf, text="猫 hauschen") == [cat.id]
    assert ids(shelf, text=fox.path.name) == [fox.id]


def test_pictures_that_are_not_kept_are_not_in_the_gallery(shelf: Shelf) -> None:
    shelf.gallery.save(replace(JOB, save=False), [picture(small(seed=1), 0)], "png", 80)
    assert ids(shelf) == []


@pytest.mark.parametrize("order", ORDERS)
def test_nobody_touches_the_pictures_of_others(shelf: Shelf, order: str) -> None:
    (mine,) = shelf.save(small(seed=1), owner="ann")
    (theirs,) = shelf.save(small(seed=2), owner="bob")
    with pytest.raises(NotAllowed, match="somebody else"):
        ORDERS[order](shelf.collection, [mine.id, theirs.id], "ann")
    assert ids(shelf) == [theirs.id, mine.id]
    assert not any(each.favourite or each.tags for each in shelf.collection.search(Search()).pictures)


@pytest.mark.parametrize("number", [77, -1, 10**30])
def test_what_is_no_picture_is_a_sentence(shelf: Shelf, number: int) -> None:
    for order in ORDERS.values():
        with pytest.raises(MissingModel, match="no picture"):
            order(shelf.collection, [number], None)


def test_too_many_at_once_are_a_sentence(shelf: Shelf) -> None:
    with pytest.raises(BadRequest, match=f"at most {MOST_AT_ONCE}"):
        shelf.collection.trash([1] * (MOST_AT_ONCE + 1))


def test_owners_see_their_own(shelf: Shelf) -> None:
    (mine,) = shelf.save(small(seed=1, prompt="<lora:ink:1>"), owner="ann")
    (theirs,) = shelf.save(small(seed=2), owner="bob")
    assert ids(shelf, owner="ann") == [mine.id]
    assert ids(shelf, owner="bob") == [theirs.id]
    assert ids(shelf, owner="") == []
    assert shelf.collection.facets("ann")["loras"] == [("ink", 1)]
    assert shelf.collection.facets("bob")["loras"] == []
    shelf.collection.trash([mine.id, theirs.id])
    assert shelf.collection.empty_trash("ann") == 1
    assert ids(shelf, trashed=True) == [theirs.id]


def test_favourites_and_tags_are_kept_and_found(shelf: Shelf) -> None:
    one, two = shelf.seeds(1, 2)
    shelf.collection.set_favourite([one.id], True)
    shelf.collection.tag([one.id, two.id], [" red  sky ", "a,b", "", "red sky"])
    shelf.collection.tag([two.id], remove=["red sky", "nothing"])
    assert ids(shelf, favourite=True) == [one.id]
    assert ids(shelf, tag="red sky") == [one.id]
    assert shelf.collection.get(two.id).tags == ("a b",)
    assert shelf.collection.facets()["tags"] == [("a b", 2), ("red sky", 1)]
    shelf.collection.set_tags(one.id, ["new", "a b"])
    assert shelf.collection.get(one.id).tags == ("a b", "new")
    shelf.collection.set_favourite([one.id], False)
    assert ids(shelf, favourite=True) == []


@pytest.mark.parametrize("name", ["x" * (MAX_TAG + 1), "猫" * 100])
def test_a_tag_that_is_too_long_is_a_sentence(shelf: Shelf, name: str) -> None:
    (saved,) = shelf.seeds(1)
    with pytest.raises(BadRequest, match=f"at most {MAX_TAG}"):
        shelf.collection.tag([saved.id], [name])


@pytest.mark.parametrize("name", ["<img src=x>", "=1+1", "a'b\"c", "🏠", "\ud800", "\0"])
def test_a_tag_may_be_any_text(shelf: Shelf, name: str) -> None:
    (saved,) = shelf.seeds(1)
    shelf.collection.tag([saved.id], [name])
    told = shelf.collection.get(saved.id).tags
    assert told == (() if name == "\0" else ("?" if name == "\ud800" else name,))
    assert [ids(shelf, tag=each) for each in told] == [[saved.id] for _ in told]


def test_a_picture_whose_file_is_gone_is_shown_as_missing_and_can_be_forgotten(shelf: Shelf) -> None:
    gone, there = shelf.seeds(1, 2)
    gone.path.unlink()
    assert {each.picture.id: each.missing for each in shelf.collection.search(Search()).pictures} == {gone.id: True, there.id: False}
    with pytest.raises(BadRequest, match="into the trash instead"):
        shelf.collection.forget([gone.id, there.id])
    assert shelf.collection.forget([gone.id]) == 1
    assert ids(shelf) == [there.id]


def test_every_change_raises_the_revision(shelf: Shelf) -> None:
    seen = [shelf.collection.revision]
    (saved,) = shelf.seeds(1)
    seen.append(shelf.collection.revision)
    for order in ("favourite", "tag", "trash", "restore"):
        ORDERS[order](shelf.collection, [saved.id], None)
        seen.append(shelf.collection.revision)
    assert seen == sorted(set(seen))


def test_a_zip_holds_the_files_byte_for_byte(shelf: Shelf) -> None:
    saved = shelf.seeds(1, 2, 3)
    saved[2].path.unlink()
    data = b"".join(shelf.collection.zipped([each.id for each in (*saved, saved[0])]))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        day = saved[0].path.parent.name
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"{day}/{each.path.name}": each.path.read_bytes() for each in saved[:2]
        }


ODD = ["ünï 猫 🏠", "a b'c\"d", "%41#?&x", "-rf *", "a\nb", "x" * 200, "..strange", "😀" * 40, "[1]", "sub/deep/er", "trailing.", "~"]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_outputs_folders_of_any_name_work(tmp_path: Path, name: str) -> None:
    with opened(tmp_path, name) as shelf:
        first, second = shelf.seeds(1, 2)
        assert Image.open(io.BytesIO(shelf.collection.thumbnail(first.id))).format == "WEBP"
        shelf.collection.trash([first.id])
        shelf.collection.restore([first.id])
        assert first.path.read_bytes()[:4] == b"\x89PNG"
        assert len(b"".join(shelf.collection.zipped([first.id, second.id]))) > first.path.stat().st_size
        with shelf.database.write() as connection:
            for table in ("pictures", "picture_facts", "picture_words"):
                connection.execute(f"DELETE FROM {table}")
        assert shelf.gallery.adopt(shelf.gallery.strangers()) == 2
        assert len(ids(shelf)) == 2


@pytest.mark.parametrize("name", [b"bad\xff.png", b"neu\nline.png", b"<b>.png", b"-x.PNG", "猫.webp".encode()])
def test_files_of_any_name_are_taken_in_or_passed_over(shelf: Shelf, name: bytes) -> None:
    folder = shelf.outputs / "mine"
    folder.mkdir(parents=True)
    kind = "WEBP" if name.endswith(b"webp") else "PNG"
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    with open(os.path.join(os.fsencode(folder), name), "wb") as file:
        file.write(buffer.getvalue())
    count = shelf.gallery.adopt(shelf.gallery.strangers())
    shown = shelf.collection.search(Search()).pictures
    assert (count, [each.missing for each in shown]) in ((1, [False]), (0, []))
    assert count == 1 or b"\xff" in name
