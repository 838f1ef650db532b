"""webui/service/models.py, model_rows.py and model_scan.py: the scan, the cards, the notes."""

import base64
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.clock import processor_time
from tests.hostile import safetensors
from tests.service.conftest import until
from webui.core.catalog import Catalog
from webui.core.errors import BadRequest, MissingModel
from webui.core.lora_hash import lora_hash
from webui.core.model_details import Details
from webui.core.settings import Settings
from webui.service import model_scan
from webui.service.database import Database, DatabaseReader
from webui.service.hashing import Hasher, HashReader, HashRows
from webui.service.model_rows import CardSearch, ModelIndexRows, ModelRows
from webui.service.models import Models


def lora(path: Path, width: int = 768, **metadata: str) -> Path:
    header: dict[str, Any] = {"x_attn2_to_k.lora_down.weight": {"dtype": "U8", "shape": [1, width], "data_offsets": [0, width]}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors({"__metadata__": metadata, **header}, bytes(width)))
    return path


def picture(path: Path, colour: str = "red") -> None:
    Image.new("RGB", (900, 1200), colour).save(path)


@pytest.fixture
def loras(settings: Settings) -> Path:
    return settings.lora_dirs[0]


@pytest.fixture
def models(database: Database, settings: Settings, loras: Path) -> Iterator[Models]:
    """Three LoRAs, looked into."""
    lora(loras / "ink.safetensors", ss_output_name="inky", **{"modelspec.title": "Ink wash"})
    lora(loras / "sub/Neon City.safetensors", 2048)
    lora(loras / "sub/paper.safetensors")
    (loras / "sub/paper.json").write_text(json.dumps({"activation text": "cut paper", "preferred weight": 0.7, "x": 1}))
    os.utime(loras / "ink.safetensors", (1, 1))
    models = Models(database, settings)
    models.start()
    settled(models)
    yield models
    models.stop()


def settled(models: Models) -> None:
    until(lambda: not models.search(CardSearch("lora")).scanning)


def names(models: Models, **how: Any) -> list[str]:
    return [card.name for card in models.search(CardSearch("lora", **how)).cards]


def test_cards_tell_what_files_and_sidecars_say(models: Models) -> None:
    cards = {card.title: card for card in models.search(CardSearch("lora")).cards}
    assert list(cards) == ["Ink wash", "Neon City", "paper"]
    paper = cards["paper"]
    assert (paper.insert, paper.triggers, paper.weight, paper.family, paper.seen) == ("<lora:paper:0.7>", "cut paper", 0.7, "sd1", True)
    assert (cards["Neon City"].family, cards["Neon City"].insert) == ("sdxl", "<lora:Neon City:1>")


def test_search_sort_pages_and_families(models: Models) -> None:
    assert names(models, q="PAPER cut") == ["sub/paper.safetensors"]
    assert names(models, q="inky") == ["ink.safetensors"]
    assert names(models, q="100%_") == []
    assert names(models, family="sdxl") == ["sub/Neon City.safetensors"]
    assert names(models, family="unknown") == []
    assert names(models, sort="date")[0] == "ink.safetensors"
    assert names(models, sort="size", down=True)[0] == "sub/Neon City.safetensors"
    page = models.search(CardSearch("lora", page=1, count=2))
    assert (page.total, [card.name for card in page.cards]) == (3, ["sub/paper.safetensors"])
    for wrong in ({"sort": "x"}, {"page": -1}, {"count": 0}, {"kind": "x"}):
        with pytest.raises(BadRequest):
            models.search(CardSearch(**{"kind": "lora", **wrong}))


def test_folders_are_told_with_those_around_them_and_narrow_the_search(models: Models, loras: Path) -> None:
    assert models.search(CardSearch("lora")).folders == ["sub"]
    for name in ("subway", "sub/deep er/x_%", "sub b/y", "Above/below/z"):
        lora(loras / f"{name}.safetensors")
    models.refresh()
    settled(models)
    assert models.search(CardSearch("lora", folder="sub", q="x_")).folders == ["Above", "Above/below", "sub", "sub/deep er", "sub b"]
    assert names(models, folder="sub") == ["sub/deep er/x_%.safetensors", "sub/Neon City.safetensors", "sub/paper.safetensors"]
    assert names(models, folder="sub", q="city") == ["sub/Neon City.safetensors"]
    assert names(models, folder="Above") == ["Above/below/z.safetensors"]
    assert names(models, folder="su") == names(models, folder="%") == []
    assert models.search(CardSearch("embedding")).folders == []


def test_files_that_did_not_change_are_not_opened_again(models: Models, loras: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = model_scan.read_details
    monkeypatch.setattr(model_scan, "read_details", lambda kind, model: opened.append(model.name) or read(kind, model))
    (loras / "ink.safetensors").unlink()
    lora(loras / "new.safetensors")
    lora(loras / "sub/Neon City.safetensors", 1024)
    (loras / "sub/paper.txt").write_text("about it")
    models.refresh()
    settled(models)
    assert sorted(opened) == ["new.safetensors", "sub/Neon City.safetensors", "sub/paper.safetensors"]
    assert names(models) == ["new.safetensors", "sub/Neon City.safetensors", "sub/paper.safetensors"]
    assert models.card("lora", "sub/Neon City.safetensors").family == "sd2"
    assert models.card("lora", "sub/paper.safetensors").description == "about it"
    opened.clear()
    models.refresh()
    settled(models)
    assert opened == []


def test_a_file_that_could_not_be_read_is_tried_again(models: Models, loras: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time and size do not change when its disk or its rights come back."""
    lora(loras / "away.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(model_scan, "read_details", lambda kind, model: Details(problem="its disk is away"))
        models.refresh()
        settled(models)
        assert models.card("lora", "away.safetensors").problem == "its disk is away"
    models.refresh()
    settled(models)
    assert models.card("lora", "away.safetensors").problem == ""


def test_the_next_process_answers_before_it_has_looked(models: Models, database: Database, settings: Settings) -> None:
    assert [card.seen for card in Models(database, settings).search(CardSearch("lora")).cards] == [True] * 3


def test_ten_thousand_files_are_listed_at_once(database: Database, settings: Settings, loras: Path) -> None:
    """Two thousand here, in a fifth of the second that ten thousand may take, of one core."""
    content = lora(loras / "f.safetensors").read_bytes()
    for number in range(2000):
        (loras / f"f{number:05d}.safetensors").write_bytes(content)
    models = Models(database, settings)
    begin = time.monotonic()
    with processor_time(time.process_time) as spent:
        models.start()
        page = models.search(CardSearch("lora"))
    assert page.total == 2001 or time.monotonic() - begin > 0.8  # a machine so busy that the patience ran out
    assert spent.seconds < 0.5
    models.stop()


def test_the_catalog_finds_by_the_index_without_listing(models: Models, settings: Settings, database: Database, loras: Path) -> None:
    reader = DatabaseReader(database.path)
    for catalog in (Catalog(settings, index=ModelRows(database)), Catalog(settings, HashReader(reader), ModelIndexRows(reader))):
        for text in ("ink", "INK.safetensors", "inky", "ink.safetensors"):
            assert catalog.find_lora(text).name == "ink.safetensors"
        assert catalog.find_lora("neon city").path == loras / "sub/Neon City.safetensors"
        assert catalog.find_lora("sub/paper").alias == ""
    lora(loras / "sub/late.safetensors")
    assert catalog.find_lora("sub/late").name == "sub/late.safetensors"
    for wrong in ("../loras/ink", "sub/../ink", "/etc/passwd", "", ".", "sub"):
        with pytest.raises(MissingModel):
            catalog.find_lora(wrong)
    with pytest.raises(MissingModel, match=r"LoRA 'papr' is not there; did you mean sub/paper\.safetensors"):
        catalog.find_lora("papr")


def test_a_name_that_fits_two_is_asked_for_with_its_folder(models: Models, settings: Settings, database: Database, loras: Path) -> None:
    lora(loras / "a/twin.safetensors")
    lora(loras / "b/twin.safetensors")
    lora(loras / "b/twin.pt")
    models.refresh()
    settled(models)
    catalog = Catalog(settings, index=ModelRows(database))
    with pytest.raises(MissingModel, match="could be one of several: a/twin, b/twin"):
        catalog.find_lora("twin")
    assert catalog.find_lora("b/twin").name == "b/twin.safetensors"
    assert models.card("lora", "a/twin.safetensors").insert == "<lora:a/twin:1>"


def test_completions_begin_with_what_begins_so(models: Models, settings: Settings) -> None:
    (settings.embeddings_dirs[0]).mkdir(parents=True)
    vectors = {"emb_params": {"dtype": "U8", "shape": [1, 768], "data_offsets": [0, 768]}}
    (settings.embeddings_dirs[0] / "ink blot.safetensors").write_bytes(safetensors(vectors, bytes(768)))
    lora(settings.lora_dirs[0] / "pink.safetensors")
    models.refresh()
    settled(models)
    assert [card.insert for card in models.completions("in")] == ["<lora:ink:1>", "ink blot", "<lora:pink:1>"]
    assert [card.kind for card in models.completions("<lora:INK")] == ["lora", "lora"]
    assert models.completions("<hypernet:in") == []
    assert models.completions("*") == []


def test_files_that_a_prompt_cannot_tell_apart_are_one_completion(models: Models, settings: Settings) -> None:
    for name in ("sub/twin.safetensors", "twin.safetensors", "twin.bin"):
        lora(settings.lora_dirs[0] / name)
    models.refresh()
    settled(models)
    inserts = [card.insert for card in models.completions("<lora:twi")]
    assert sorted(inserts) == ["<lora:sub/twin:1>", "<lora:twin:1>"]


def test_a_thumbnail_is_small_and_follows_its_picture(models: Models, loras: Path) -> None:
    with pytest.raises(MissingModel, match=r"put one beside it, called ink\.preview\.png"):
        models.thumbnail("lora", "ink.safetensors")
    seen = set()
    for colour in ("red", "blue"):
        picture(loras / "ink.preview.png", colour)
        models.refresh()
        settled(models)
        seen.add(models.card("lora", "ink.safetensors").thumbnail)
        image = Image.open(io.BytesIO(models.thumbnail("lora", "ink.safetensors")))
        assert (image.format, image.size) == ("WEBP", (320, 427))
    assert len(seen) == 2
    (loras / "ink.preview.png").write_bytes(b"no picture at all, but long enough to be another")
    models.refresh()
    settled(models)
    with pytest.raises(MissingModel):
        models.thumbnail("lora", "ink.safetensors")


def test_a_thumbnail_comes_out_of_the_metadata(models: Models, loras: Path, tmp_path: Path) -> None:
    picture(tmp_path / "p.jpg")
    uri = "data:image/jpeg;base64," + base64.b64encode((tmp_path / "p.jpg").read_bytes()).decode()
    lora(loras / "shown.safetensors", **{"modelspec.thumbnail": uri})
    models.refresh()
    settled(models)
    assert Image.open(io.BytesIO(models.thumbnail("lora", "shown.safetensors"))).size == (320, 427)


def test_notes_are_written_beside_the_model_and_told_at_once(models: Models, loras: Path) -> None:
    card = models.edit("lora", "sub/paper.safetensors", {"weight": 1.2, "description": "d"})
    assert (card.insert, card.description, card.triggers) == ("<lora:paper:1.2>", "d", "cut paper")
    assert json.loads((loras / "sub/paper.json").read_text())["x"] == 1
    assert models.search(CardSearch("lora", q="d")).total >= 1
    models.edit("lora", "ink.safetensors", {"notes": "n"})
    assert sorted(path.name for path in loras.glob("*")) == ["ink.json", "ink.safetensors", "sub"]


def test_a_link_is_not_written_through(models: Models, loras: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text("{}")
    (loras / "ink.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(BadRequest, match="no ordinary file"):
        models.edit("lora", "ink.safetensors", {"notes": "n"})
    assert (tmp_path / "outside.json").read_text() == "{}"


def test_a_picture_becomes_the_models_own(models: Models, loras: Path, tmp_path: Path) -> None:
    picture(tmp_path / "p.png")
    assert models.set_thumbnail("lora", "ink.safetensors", tmp_path / "p.png").thumbnail
    assert Image.open(io.BytesIO((loras / "ink.preview.png").read_bytes())).size == (576, 768)
    (loras / "ink.safetensors").unlink()
    with pytest.raises(MissingModel, match="not there any more"):
        models.set_thumbnail("lora", "ink.safetensors", tmp_path / "p.png")


def test_loras_are_hashed_by_their_tensors_in_the_background(models: Models, settings: Settings, database: Database, loras: Path) -> None:
    lora(loras / "said.safetensors", sshs_model_hash="0123456789abcdef" * 4)
    models.refresh()
    settled(models)
    catalog = Catalog(settings, HashRows(database), ModelRows(database))
    hasher = Hasher(catalog, models.take_unhashed)
    hasher.start()
    until(lambda: not ModelRows(database).unhashed())
    hasher.stop()
    assert models.card("lora", "said.safetensors").hash == "0123456789ab"
    assert models.card("lora", "ink.safetensors").hash == lora_hash(loras / "ink.safetensors")
    assert catalog.lora_hash(catalog.find_lora("ink")) == models.card("lora", "ink.safetensors").hash
