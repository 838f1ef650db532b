"""Threads for requests that wait for their jobs, so that others are answered meanwhile."""

from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter, to_thread

from webui.core.errors import Busy

MOST = 256  # requests that may wait for their turn at once, each in a thread of its own


class Patience:
    """Runs functions that wait for jobs; what waits does not keep the server from stopping."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(MOST)
        self._in_hand = 0

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns or raises. Raises Busy where no thread is left: the request would wait unseen."""
        if self._in_hand >= MOST:
            raise Busy(f"{MOST} requests wait for their jobs already; try again when some are done")
        self._in_hand += 1
        try:
            return await to_thread.run_sync(function, *arguments, limiter=self._limiter, abandon_on_cancel=True)
        finally:
            self._in_hand -= 1
