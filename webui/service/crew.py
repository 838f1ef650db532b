"""The workers together: which of them takes which job."""

from typing import Protocol

from webui.service.queue import JobQueue, JobRow


class Member(Protocol):
    """A supervisor, as the others know it."""

    @property
    def free(self) -> bool:
        """Whether it would take a job now."""
        ...

    @property
    def loaded(self) -> tuple[str, str] | None:
        """Checkpoint and VAE that its worker has in hand."""
        ...

    def wake(self) -> None:
        """There may be something to do; returns at once."""
        ...


class Crew:
    """All supervisors of one queue. A job whose checkpoint a free worker has in hand is left to that one; nobody waits for a busy one."""

    def __init__(self, queue: JobQueue):
        self._queue = queue
        self._members: tuple[Member, ...] = ()

    def join(self, member: Member) -> None:
        """Be one of them, before anybody asks for work."""
        self._members = (*self._members, member)

    def take(self, member: Member) -> JobRow | None:
        """The next job for a member whose worker is free. One who was left a job and cannot take it wakes the others."""
        theirs = {other.loaded for other in self._others(member) if other.free and other.loaded != member.loaded}
        return self._queue.take(member.loaded, theirs - {None})

    def wake_others(self, member: Member) -> None:
        """Let the others look into the queue: this member is no longer free."""
        for other in self._others(member):
            other.wake()

    def _others(self, member: Member) -> list[Member]:
        return [other for other in self._members if other is not member]
