"""Routes of /sdapi/v1 about the server itself: weights in memory, extensions, captions, and its end."""

import os
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel

from webui.api import schemas as wire
from webui.api.convert import decode_picture
from webui.api.waiting import Patience
from webui.core.image_metadata import open_image
from webui.core.model_orders import WeightsOrder
from webui.service.service import Service

CAPTIONERS = {"clip": "CLIP and BLIP", "deepdanbooru": "DeepDanbooru"}


class Extension(BaseModel):
    name: str
    remote: str
    branch: str
    commit_hash: str
    version: str
    commit_date: int
    enabled: bool


def add_weights_routes(router: APIRouter, service: Service, patience: Patience) -> None:
    def carry_out(action: str) -> dict[str, Any]:
        checkpoint = str(service.preferences()["sd_model_checkpoint"]) if action == "reload" else ""
        service.weights.keep(WeightsOrder(action=action, checkpoint=checkpoint))
        return {}

    @router.post("/unload-checkpoint")
    async def unload() -> dict[str, Any]:
        """Let go of every model in every worker's memory, after its present job; the next picture loads its checkpoint again."""
        return await patience.run(carry_out, "unload")

    @router.post("/reload-checkpoint")
    async def reload() -> dict[str, Any]:
        """Load the preferred checkpoint in every worker, after its present job, where it is not in memory."""
        return await patience.run(carry_out, "reload")


def add_absent_routes(router: APIRouter) -> None:
    """What Easel has not, told in the way that clients understand."""

    @router.get("/extensions")
    def extensions() -> list[Extension]:
        """None: Easel has no extensions."""
        return []

    @router.post("/interrogate")
    def interrogate(body: wire.Interrogation) -> None:
        """Captions need a model that Easel does not have: 501."""
        if not body.image:
            raise HTTPException(404, "Image not found")
        if body.model not in CAPTIONERS:
            raise HTTPException(404, f"Model not found; the field knows {' and '.join(CAPTIONERS)}")
        open_image(decode_picture("image", body.image))
        raise HTTPException(501, f"this version of Easel has no captioner: {CAPTIONERS[body.model]} would have to be built in first")


class Switch:
    """By which the server is told to end, or to begin anew."""

    def __init__(self) -> None:
        self.restart = False
        self.stop: Callable[[], None] = lambda: None  # set by whoever runs the server


def add_switch_routes(router: APIRouter, switch: Switch) -> None:
    """Only with --api-server-stop."""

    @router.post("/server-kill")
    def kill() -> None:
        """End Easel; jobs that run or wait are done after the next start."""
        switch.stop()

    @router.post("/server-stop")
    def stop() -> Response:
        """End Easel once this is answered."""
        switch.stop()
        return Response("Stopping.", media_type="text/plain")

    @router.post("/server-restart")
    def restart() -> Response:
        """End Easel and start it again with the same flags."""
        if os.name == "nt":
            raise HTTPException(501, "on Windows a program cannot take its own place; stop Easel and start it again")
        switch.restart = True
        switch.stop()
        return Response("Restarting.", media_type="text/plain")
