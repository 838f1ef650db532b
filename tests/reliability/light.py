"""All of Easel but torch: `python -m tests.reliability.light FLAG ...` serves page, API and guard as app.py does, with a worker that draws
at once (tests/service/handlers.py says what prompts make it do)."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

import uvicorn
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount

from tests.service.conftest import settings_for
from webui.api.guard import Guard
from webui.api.system import Switch
from webui.build import make_app
from webui.core.settings import Settings, parse_flags
from webui.service.service import open_service

ROUTES = "routes.json"  # in the data folder: [[method, path], ...] of all that this server answers, Gradio's included


def main() -> None:
    settings = light_settings(sys.argv[1:])
    service = open_service(settings, "tests.service.handlers:make")
    service.start()
    try:
        app = make_app(settings, service, Switch())
        (settings.data_dir / ROUTES).write_text(json.dumps(routes_of(app)))
        guard = Guard(app, settings)
        uvicorn.run(guard, host=settings.host, port=settings.port, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=3)
    finally:
        service.stop()


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route, those of mounted apps behind the mount's path; WS for WebSockets."""
    found: list[tuple[str, str]] = []

    def walk(routes: Sequence[BaseRoute], prefix: str) -> None:
        for route in routes:
            path = prefix + str(getattr(route, "path", ""))
            if isinstance(route, Mount):
                walk(route.routes, path)
            elif hasattr(route, "original_router"):
                walk(route.original_router.routes, path)
            else:
                found.extend((method, path) for method in sorted(getattr(route, "methods", None) or {"WS"}))

    walk(app.routes, "")
    return found


def light_settings(flags: list[str]) -> Settings:
    """The settings of these flags, a tiny checkpoint being the one that ships with Easel."""
    settings = parse_flags(flags, {})
    return replace(settings, builtin_checkpoint=settings_for(settings.data_dir).builtin_checkpoint)


if __name__ == "__main__":
    main()
