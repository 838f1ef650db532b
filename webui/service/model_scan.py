"""Looks through the model folders in the background: first which files lie there, then into those that are new or changed."""

import logging
import threading
import time

from webui.core.errors import StorageError
from webui.core.model_details import FROM_METADATA, Details, read_details
from webui.core.model_listing import ENDINGS, ModelFile, folders_of, list_kind, with_companions
from webui.core.settings import Settings
from webui.service.model_rows import ModelRows, stamp_of

BATCH = 200  # files in one transaction
log = logging.getLogger(__name__)


class ModelScan:
    """The thread that keeps the models table up to date. Files that did not change are not opened.

    It has no lower priority than others: it would keep them waiting whenever it lost the processor with the interpreter in its hands.
    """

    def __init__(self, rows: ModelRows, settings: Settings):
        self._rows = rows
        self._settings = settings
        self._stopping = False
        self._changed = threading.Condition()  # over the three that follow
        self._asked = 0  # scans that were asked for
        self._listed = 0  # of those, how many have listed the folders
        self._done = 0  # of those, how many have looked into the files
        self._unhashed: list[tuple[str, ModelFile]] = []
        self._thread = threading.Thread(target=self._run, name="easel-models", daemon=True)

    @property
    def scanning(self) -> bool:
        """Whether files are still being listed or looked into."""
        return self._done < self._asked

    def start(self) -> None:
        """Begin the first scan."""
        self._asked = 1
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the file it reads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def refresh(self, patience: float) -> None:
        """Have the folders listed again; returns when that is done (what is in the files comes later), or after `patience` seconds."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()
        self.wait_for_list(patience)

    def wait_for_list(self, patience: float) -> None:
        """Wait until the folders were listed as often as was asked, at most `patience` seconds."""
        with self._changed:
            wanted = self._asked
            self._changed.wait_for(lambda: self._listed >= wanted or self._stopping, patience)

    def take_unhashed(self) -> list[tuple[str, ModelFile]]:
        """(kind, file) of what the last scan found without a sum; each is told once. Quick: this is asked by a thread of low priority,
        which must not hold the database while it waits for the processor."""
        found, self._unhashed = self._unhashed, []
        return found

    def look_again(self, kind: str, name: str) -> None:
        """Look into one file and its sidecars now. Raises MissingModel, StorageError."""
        model = with_companions(self._rows.file(kind, name), folders_of(kind, self._settings))
        self._rows.list_anew(kind, [model], [])
        self._rows.put_details(kind, [_looked_into(kind, model)])

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.scanning or self._stopping)
                asked = self._asked
            if self._stopping:
                return
            try:
                self._scan(asked)
            except StorageError as error:
                log.warning("the models were not listed: %s", error)
            except Exception:
                log.exception("the models were not listed")
            self._reached(asked, done=True)

    def _scan(self, asked: int) -> None:
        found = {kind: self._list(kind) for kind in ENDINGS}
        self._reached(asked)
        for kind in ("checkpoint", "embedding", "hypernetwork", "aesthetic", "vae", "lora"):  # few files first
            unseen = self._rows.unseen(kind)
            waiting = [model for model in found[kind] if str(model.path) in unseen]
            for start in range(0, len(waiting), BATCH):
                batch = []
                for model in waiting[start : start + BATCH]:
                    if self._stopping:
                        return
                    batch.append(_looked_into(kind, model))
                    time.sleep(0)  # let others have the interpreter
                self._rows.put_details(kind, batch)
        self._unhashed = self._rows.unhashed()

    def _list(self, kind: str) -> list[ModelFile]:
        found = list_kind(kind, self._settings)
        known = self._rows.stamps(kind)
        changed = [model for model in found if known.get(str(model.path)) != stamp_of(model)]
        gone = known.keys() - {str(model.path) for model in found}
        if changed or gone:
            self._rows.list_anew(kind, changed, gone)
        return found

    def _reached(self, asked: int, done: bool = False) -> None:
        with self._changed:
            self._listed = max(self._listed, asked)
            self._done = asked if done else self._done
            self._changed.notify_all()


def _looked_into(kind: str, model: ModelFile) -> tuple[ModelFile, Details, str]:
    details = read_details(kind, model)
    version = ""
    if details.thumbnail:
        pictures = {one.ending: (one.mtime, one.size) for one in model.beside}
        mtime, size = (model.mtime, model.size) if details.thumbnail == FROM_METADATA else pictures[details.thumbnail]
        version = f"{int(mtime * 1000):x}-{size:x}"
    return model, details, version
