"""Models: cards of everything in the model folders, with search, thumbnails and notes that can be changed."""

import base64
import binascii
import hashlib
import io
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import BadRequest, MissingModel, StorageError
from webui.core.image_metadata import open_image
from webui.core.model_details import FROM_METADATA, metadata_picture
from webui.core.model_listing import ENDINGS, KIND_TITLES, ModelFile, folders_of, model_at, with_companions, without_ending
from webui.core.safetensors_header import open_model_file, read_exactly
from webui.core.settings import Settings
from webui.core.sidecars import changed_sidecar
from webui.service.database import Database
from webui.service.files import make_folder, sync_folder, write_whole
from webui.service.model_rows import MENTIONED, ORDERS, Card, CardSearch, ModelRows
from webui.service.model_scan import ModelScan

PATIENCE = 0.8  # seconds that an answer waits for folders that were never listed before
MOST = 500  # cards in one answer
COMPLETED = 20  # names in one answer of `completions`
SMALL = (320, 480)  # pixels, at most, of a thumbnail
KEPT = (768, 768)  # pixels, at most, of a picture that is put beside a model
MAX_PICTURE = 40_000_000  # bytes of a picture file
TAGS = {"<lora:": "lora", "<hypernet:": "hypernetwork"}


@dataclass(frozen=True)
class CardPage:
    """total: models that fit, on all pages; scanning: whether more may come or change soon; folders: of all models of the kind."""

    total: int
    scanning: bool
    cards: list[Card]
    folders: list[str]


class Models:
    """All that UI and API may ask and change about model files. Names are those of the cards; no other file is ever touched."""

    def __init__(self, database: Database, settings: Settings):
        self._rows = ModelRows(database)
        self._settings = settings
        self._scan = ModelScan(self._rows, settings)
        self._thumbnails = settings.temp_dir / "thumbnails"
        self._shrinking = threading.Semaphore(2)  # large pictures in memory at once

    def start(self) -> None:
        """Begin to look through the folders; returns at once."""
        self._scan.start()

    def stop(self) -> None:
        self._scan.stop()

    def refresh(self, patience: float = 5.0) -> None:
        """Look through the folders again; returns when they are listed, at the latest after `patience` seconds."""
        self._scan.refresh(patience)

    def search(self, asked: CardSearch) -> CardPage:
        """One page of cards. Raises BadRequest."""
        _check_kind(asked.kind)
        if asked.sort not in ORDERS:
            raise BadRequest(f"models cannot be sorted by {asked.sort[:50]!r}; choose one of: {', '.join(ORDERS)}")
        page, count = asked.page, asked.count
        if not 0 <= page <= 10**6 or not 1 <= count <= MOST:
            raise BadRequest(f"page {page} with {count} models is out of range: pages count from 0, with 1 to {MOST} models each")
        total, cards = self._rows.search(asked)
        if not total and self._scan.scanning:
            self._scan.wait_for_list(PATIENCE)
            total, cards = self._rows.search(asked)
        return CardPage(total, self._scan.scanning, cards, self._rows.folders(asked.kind))

    def completions(self, text: str) -> list[Card]:
        """The models whose name begins with, or holds, what stands in the prompt: "<lora:na", "<hypernet:na" or "na"; of files that a
        prompt cannot tell apart, which differ in their endings alone, one."""
        wanted = text.strip().lower()[:200]
        start, kinds = next(((start, [kind]) for start, kind in TAGS.items() if wanted.startswith(start)), ("<", MENTIONED))
        cards = self._rows.starting_with(wanted.removeprefix(start), kinds, COMPLETED)
        return list({(card.kind, card.insert or card.name): card for card in reversed(cards)}.values())[::-1]

    def files(self, kind: str) -> list[tuple[ModelFile, dict[str, Any]]]:
        """Every file of a kind with the fields of its core.model_details.Details. Raises BadRequest."""
        _check_kind(kind)
        return self._rows.all_details(kind)

    def take_unhashed(self) -> list[tuple[str, ModelFile]]:
        """(kind, file) of LoRAs, embeddings and hypernetworks whose sum is still to be worked out; each is told once after a scan."""
        return self._scan.take_unhashed()

    def with_hash(self, kind: str, digits: str) -> list[str]:
        """The names of the models that infotexts mean by these digits; those that were not worked out yet are missing."""
        return self._rows.with_hash(kind, digits)

    def card(self, kind: str, name: str) -> Card:
        """Raises BadRequest, MissingModel."""
        _check_kind(kind)
        return self._rows.card(kind, name)

    def metadata(self, kind: str, name: str) -> list[tuple[str, str]]:
        """What the file's metadata say, in rows of a table. Raises BadRequest, MissingModel."""
        _check_kind(kind)
        return [(key, value) for key, value in self._rows.details(kind, name).get("rows", ())]

    def thumbnail(self, kind: str, name: str) -> bytes:
        """A small picture of the model, as WebP. Raises BadRequest, MissingModel (also where its picture is damaged)."""
        card = self.card(kind, name)
        model = self._rows.file(kind, name)
        key = hashlib.sha256(f"{model.path}\n{card.thumbnail}".encode("utf-8", "replace")).hexdigest()
        path = self._thumbnails / key[:2] / f"{key}.webp"
        if card.thumbnail and not path.exists():
            with self._shrinking:
                self._make_thumbnail(path, model, self._rows.details(kind, name)["thumbnail"])
        data = path.read_bytes() if card.thumbnail else b""
        if not data:
            raise MissingModel(f"{name} has no picture; put one beside it, called {model.stem}.preview.png")
        return data

    def edit(self, kind: str, name: str, changes: Mapping[str, Any]) -> Card:
        """Write description, triggers, negative, weight or notes into the json beside the model; returns its new card.

        Raises BadRequest, BadModelFile, MissingModel, StorageError.
        """
        model = self._present(kind, name)
        old = next((one for one in model.beside if one.ending == ".json"), None)
        path = _beside(model, ".json")
        if old is None and os.path.lexists(path):
            raise BadRequest(f"{path.name} is no ordinary file; move it away first")
        _write(path, changed_sidecar(old, changes))
        self._scan.look_again(kind, name)
        return self.card(kind, name)

    def set_thumbnail(self, kind: str, name: str, picture: Path) -> Card:
        """Put a small copy of a picture beside the model, as name.preview.png; returns its new card. Raises as `edit` does."""
        model = self._present(kind, name)
        image = open_image(_read(picture)).convert("RGB")
        image.thumbnail(KEPT)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        _write(_beside(model, ".preview.png"), buffer.getvalue())
        self._scan.look_again(kind, name)
        return self.card(kind, name)

    def _present(self, kind: str, name: str) -> ModelFile:
        _check_kind(kind)
        model = self._rows.file(kind, name)
        if model_at(model.name, model.path) is None:
            raise MissingModel(f"the file of {KIND_TITLES[kind]} {name} is not there any more; refresh the list")
        return with_companions(model, folders_of(kind, self._settings))

    def _make_thumbnail(self, path: Path, model: ModelFile, source: str) -> None:
        """Write the small picture; an empty file where the large one is damaged, so that it is not tried again."""
        try:
            data = _from_metadata(model) if source == FROM_METADATA else _read(_beside(model, source))
            image = open_image(data).convert("RGB")
            image.thumbnail(SMALL)
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=80)
            small = buffer.getvalue()
        except BadRequest:  # also MissingModel and BadModelFile
            small = b""
        try:
            make_folder(path.parent)
            write_whole(path, small)
        except OSError as error:
            raise StorageError(f"the thumbnail could not be kept in {self._thumbnails}: {error.strerror}; free disk space") from error


def _check_kind(kind: str) -> None:
    if kind not in ENDINGS:
        raise BadRequest(f"{kind[:50]!r} is no kind of model; choose one of: {', '.join(ENDINGS)}")


def _beside(model: ModelFile, ending: str) -> Path:
    return model.path.with_name(without_ending(model.path.name) + ending)


def _from_metadata(model: ModelFile) -> bytes:
    """The picture in the metadata. Raises BadRequest, BadModelFile, MissingModel."""
    found = re.match(r"data:image/[a-z+.-]{1,20};base64,", uri := metadata_picture(model))
    try:
        return base64.b64decode(uri[found.end() :] if found else "", validate=True)
    except (ValueError, binascii.Error):
        raise BadRequest("the picture in the metadata is damaged") from None


def _read(path: Path) -> bytes:
    """The bytes of a picture file. Raises BadRequest, BadModelFile, MissingModel."""
    with open_model_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_PICTURE:
            raise BadRequest(f"{path.name} has {size} bytes; pictures may have {MAX_PICTURE}: make it smaller")
        return bytes(read_exactly(file, size, path.name))


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path.name} could not be written: {error.strerror}; check its folder and the disk") from error
