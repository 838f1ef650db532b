import json
import os
from pathlib import Path

import pytest

from webui.core.errors import MissingModel, StorageError
from webui.core.event import Record
from webui.service import xrays
from webui.service.xrays import Xrays


@pytest.fixture
def store(tmp_path: Path) -> Xrays:
    return Xrays(tmp_path / "xray")


def step(number: int) -> Record:
    return Record(f"step-{number:03d}.json", json.dumps({"step": number}).encode())


def test_what_was_recorded_is_told_and_later_steps_by_themselves(store: Xrays) -> None:
    for record in (
        step(2),
        step(1),
        Record("whole.json", b'{"layers": []}'),
        Record("maps-001.json", b"{}"),
        Record("maps-001.bin", b"12"),
    ):
        store.keep("a", record)
    assert store.told("a") == {"steps": [{"step": 1}, {"step": 2}], "whole": {"layers": []}, "files": ["maps-001.bin"]}
    assert store.told("a", after=1)["steps"] == [{"step": 2}]
    assert store.path("a", "maps-001.bin").read_bytes() == b"12"


def test_a_job_that_runs_again_writes_over_what_it_wrote(store: Xrays) -> None:
    store.keep("a", Record("whole.json", b'{"a": 1}'))
    store.keep("a", Record("whole.json", b'{"a": 2}'))
    assert store.told("a")["whole"] == {"a": 2}


@pytest.mark.parametrize("name", ["../secret.json", "a/b.json", ".hidden.json", "step-1.exe", "", "STEP.json", "..", "a\0.json"])
def test_names_lead_to_no_other_place(store: Xrays, name: str) -> None:
    store.keep("a", Record(name, b"{}"))
    assert store.jobs() == []
    with pytest.raises(MissingModel):
        store.path("a", name)


@pytest.mark.parametrize("job", ["..", ".", "a:b", "(x)"])
def test_any_job_s_name_is_a_folder_of_its_own(store: Xrays, tmp_path: Path, job: str) -> None:
    store.keep(job, step(1))
    assert store.path(job, "step-001.json").parent.parent == tmp_path / "xray"


def test_the_newest_are_kept_also_after_a_restart(store: Xrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xrays, "KEPT", 3)
    for i in range(5):
        store.keep(str(i), step(1))
        for path in (folder := store.path(str(i), "step-001.json").parent, folder / "job.txt"):
            os.utime(path, (i, i))
    assert store.jobs() == ["4", "3", "2"]
    again = Xrays(tmp_path / "xray")
    again.keep("5", step(1))
    assert again.jobs() == ["5", "4", "3"]


def test_one_study_takes_no_more_than_its_share(store: Xrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xrays, "MAX_BYTES", 10)
    store.keep("a", Record("frame-001.png", b"123456"))
    store.keep("a", Record("frame-002.png", b"123456"))
    assert store.told("a")["files"] == ["frame-001.png"]


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="free disk space"):
        Xrays(tmp_path / "file" / "xray").keep("a", step(1))


def test_a_damaged_file_is_as_if_it_were_not_there(store: Xrays) -> None:
    store.keep("a", Record("whole.json", b"{"))
    assert store.told("a")["whole"] is None
