"""webui/api/desktop.py: a picture's folder in the file manager of Easel's own machine."""

from dataclasses import replace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from webui.api.internal import internal_router
from webui.service.service import Service


def test_where_others_are_served_nobody_opens_folders(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "settings", replace(service.settings, host="0.0.0.0"))
    app = FastAPI()
    app.include_router(internal_router(service))
    with TestClient(app) as page:
        answer = page.post("/internal/pictures/1/folder")
    assert answer.status_code == 403
    assert "only its own user" in answer.json()["errors"]
