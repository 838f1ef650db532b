"""Easel's own API, /api/v1: submit a job and have its id at once, manage the queue, follow events, fetch pictures by id."""

from fastapi import APIRouter

from webui.api.docs import add_docs_route
from webui.api.envelope import EnvelopeRoute
from webui.api.v1.events import add_event_routes
from webui.api.v1.files import add_file_routes
from webui.api.v1.jobs import add_job_routes
from webui.api.v1.schemas import PROBLEMS
from webui.core.settings import Settings
from webui.service.service import Service

PREFIX = "/api/v1"


def v1_router(service: Service, settings: Settings) -> APIRouter:
    """All routes of /api/v1; mount it without a prefix."""
    router = APIRouter(prefix=PREFIX, route_class=EnvelopeRoute, tags=["v1"], responses=PROBLEMS)
    add_job_routes(router, service, settings)
    add_event_routes(router, service, settings)
    add_file_routes(router, service, settings)
    add_docs_route(router, PREFIX)
    return router
