"""Task ids that clients choose: which job one of them means, since some clients send the same one with every request."""

import re
import secrets
import threading
from collections import OrderedDict

from webui.core.errors import MissingModel
from webui.service.queue import JobQueue

JOB_ID = re.compile(r"[\w.:()-]{1,100}", re.ASCII)
KEPT = 10_000  # the newest


class TaskNames:
    """The first job of a name has it as its id, for ever; later ones have ids of their own, and are known by it until the server ends."""

    def __init__(self, queue: JobQueue):
        self._queue = queue
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, str] = OrderedDict()  # name -> id of its newest job

    def new_job(self, name: str) -> str:
        """The id for a new job that a client wants to call `name`; a malformed one is given back, for `Service.submit` to refuse."""
        if not JOB_ID.fullmatch(name):
            return name
        with self._lock:
            job_id = secrets.token_hex(8) if name in self._jobs or self._is_taken(name) else name
            self._jobs[name] = job_id
            self._jobs.move_to_end(name)
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)
        return job_id

    def job(self, name: str) -> str:
        """The id of the newest job of that name; the name itself where it stands for no other."""
        with self._lock:
            return self._jobs.get(name, name)

    def name(self, job_id: str) -> str:
        """What the client calls this job; its id where it has no other name."""
        with self._lock:
            return next((name for name, newest in reversed(self._jobs.items()) if newest == job_id), job_id)

    def _is_taken(self, job_id: str) -> bool:
        try:
            self._queue.get(job_id)
        except MissingModel:
            return False
        return True
