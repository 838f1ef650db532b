"""Who asks: whose jobs they are given, and which jobs they may see and change."""

import re
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from webui.api.doors import basic_credentials
from webui.api.roles import GUEST
from webui.core.errors import BadRequest, NotAllowed
from webui.core.settings import Settings
from webui.service.service import Job, Service

CLIENT = re.compile(r"[0-9a-zA-Z_-]{8,64}")
HEADER = "x-easel-client"


@dataclass(frozen=True)
class Asker:
    """owner: of the jobs that they queue; admin: manages everybody's jobs, not only these."""

    owner: str
    admin: bool

    @property
    def scope(self) -> str | None:
        """The owner whose jobs they may manage; None: all."""
        return None if self.admin else self.owner

    def job(self, service: Service, job_id: str) -> Job:
        """Raises MissingModel, NotAllowed."""
        job = service.job(job_id)
        if not self.admin and job.owner != self.owner:
            raise NotAllowed("this job was queued by somebody else; only they may look at it or change it")
        return job


def asker_of(connection: HTTPConnection, settings: Settings, client: str = "") -> Asker:
    """The one behind a request that the guard let through. client: the random id that a browser or a program has given itself.

    Where only this machine is served and it has at most one user, that user manages all jobs. Raises BadRequest.
    """
    client = client or connection.headers.get(HEADER, "")
    if client and not CLIENT.fullmatch(client):
        raise BadRequest("a client's id has 8 to 64 letters, digits, _ or -")
    admin = settings.single_user and not connection.scope.get(GUEST)
    locked = settings.gradio_auth or settings.api_auth
    given = basic_credentials(connection.headers)
    address = connection.client.host if connection.client else ""
    return Asker(client or ("" if admin else f"user:{given[0]}" if given and locked else f"address:{address}"), admin)
