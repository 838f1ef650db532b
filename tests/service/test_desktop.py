from pathlib import Path

import pytest

from tests.api.conftest import until
from webui.core.errors import BadRequest
from webui.service.desktop import open_folder


def test_a_folder_is_shown_by_the_desktops_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/asked.part && mv {tmp_path}/asked.part {tmp_path}/asked\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    folder = tmp_path / "-a b; c"
    folder.mkdir()
    open_folder(folder)
    until(lambda: (tmp_path / "asked").exists())
    assert (tmp_path / "asked").read_text() == str(folder)


def test_without_a_desktop_the_sentence_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(BadRequest, match=str(tmp_path)):
        open_folder(tmp_path)
