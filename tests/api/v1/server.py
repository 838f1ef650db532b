"""A server to be killed: `python -m tests.api.v1.server DATA_DIR PORT` serves /api/v1 over this folder's service until it is ended."""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from tests.api.conftest import FACTORY
from tests.service.conftest import settings_for
from webui.api.v1 import v1_router
from webui.service.service import open_service

if __name__ == "__main__":
    settings = settings_for(Path(sys.argv[1]))
    service = open_service(settings, FACTORY)
    service.start()
    app = FastAPI()
    app.include_router(v1_router(service, settings))
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
