"""What happened to jobs, numbered: an id rises with every event, over restarts too, so that whoever was away can read on where they were.

The latest events are in memory. Of older ones, and of earlier lives of the server, each job's latest change is in its row.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from webui.service.turns import EVERYBODY

KEPT = 5000  # events in memory
LEAP = 1_000_000  # between the ids of two lives: above every id that was told, but not stored, before a kill
PAUSE = 0.1  # seconds between two progress events of a job
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobEvent:
    """One event. kind "job": the job is now as told, which is stored; "progress": how far it is; "queue": paused or resumed."""

    id: int
    kind: str
    owner: str  # who may read it; EVERYBODY for all
    facts: Mapping[str, Any] = field(default_factory=dict)


class EventLog:
    """The latest events. Ids are given and events appended under one lock, so that nobody who reads on misses one."""

    def __init__(self, start: int, kept: int = KEPT):
        """start: an id above all that were ever told."""
        self._writing = threading.RLock()
        self._reading = threading.Lock()  # held for moments only
        self._last = start
        self._floor = start  # nothing that happened up to here is in memory
        self._stored = start
        self._kept = kept
        self._events: deque[JobEvent] = deque()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._progress: dict[object, tuple[object, float]] = {}  # job -> status that was last told, and when
        self.closed = False

    @property
    def last(self) -> int:
        """The id of the latest event."""
        with self._reading:
            return self._events[-1].id if self._events else self._floor

    @property
    def stored(self) -> int:
        """The id of the latest event of kind "job" or "queue"."""
        return self._stored

    @contextmanager
    def writing(self) -> Iterator[Callable[[], int]]:
        """Take ids by the function given, store what they number, and append the events, while nobody else does."""
        with self._writing:
            yield self._number

    def append(self, *events: JobEvent) -> None:
        """Add events, whose ids were taken within the same `writing`."""
        with self._writing, self._reading:
            for event in sorted(events, key=lambda event: event.id):
                self._events.append(event)
                if event.kind != "progress":
                    self._stored = event.id
                    self._progress.pop(event.facts.get("job"), None)
            while len(self._events) > self._kept:
                self._floor = self._events.popleft().id
        self._wake()

    def tell(self, kind: str, owner: str, facts: Mapping[str, Any]) -> None:
        """Append an event that is not stored."""
        with self._writing:
            self.append(JobEvent(self._number(), kind, owner, facts))

    def tell_progress(self, owner: str, facts: Mapping[str, Any]) -> None:
        """As `tell`; but not more often than a reader can use, unless the status is another one."""
        status, when = self._progress.get(facts["job"], ("", 0.0))
        if status != facts["status"] or time.monotonic() - when >= PAUSE:
            self._progress[facts["job"]] = (facts["status"], time.monotonic())
            self.tell("progress", owner, facts)

    def after(self, cursor: int) -> tuple[int, list[JobEvent]]:
        """(floor, events after the cursor): what happened up to the floor is not in memory any more."""
        with self._reading:
            return self._floor, [event for event in self._events if event.id > cursor]

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener`, which must return at once, after each event and at the end, until the returned function is called."""
        with self._reading:
            self._listeners = (*self._listeners, listener)

        def unwatch() -> None:
            with self._reading:
                self._listeners = tuple(each for each in self._listeners if each is not listener)

        return unwatch

    def close(self) -> None:
        """Tell all who watch that nothing more will come."""
        self.closed = True
        self._wake()

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _wake(self) -> None:
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                log.exception("a listener failed")


def visible(event: JobEvent, owner: str | None) -> bool:
    """Whether `owner` may read it; None: all may be read."""
    return owner is None or event.owner in (owner, EVERYBODY)
