"""The doors of Gradio that Easel's page uses; all others (proxies, calls by name, code by prompt, monitoring) are closed.

A door that nobody uses can only be used by somebody else, and some of them fail with a traceback.
"""

from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from webui.api.envelope import envelope

PATHS = ("", "config", "favicon.ico", "theme.css", "robots.txt", "manifest.json", "login", "logout")
CALLS = ("app_id", "cancel", "info", "queue/data", "queue/join", "reset", "run/predict", "startup-events", "theme.css")
UPLOAD = ("upload", "upload_progress")
USED = frozenset([*(f"/{path}" for path in PATHS), *(f"/gradio_api/{call}" for call in (*CALLS, *UPLOAD))])
PREFIXES = ("/assets/", "/static/", "/svelte/", "/gradio_api/file=", "/gradio_api/heartbeat/")


class ClosedDoors(BaseRoute):
    """Stands behind Easel's own routes and before the page: what the page does not use is a 404."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """FULL for every path but those of the page."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        used = path in USED or path.startswith(PREFIXES)
        return (Match.NONE if used or scope["type"] != "http" else Match.FULL), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        sentence = f"there is no {scope['path'][:100]} here"
        await envelope(404, "HTTPException", "Not Found", sentence)(scope, receive, send)  # the words that clients of A1111 look for
