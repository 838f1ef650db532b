"""A server to be killed: `python -m tests.service.server DATA_DIR` starts a service and takes commands, one JSON list a line.

["submit", id, prompt, seed, batch_count] answers the id once it is acknowledged; ["wait", id] answers [status, seeds, error].
["edit", id, prompt, seed, batch_count], and any other method of the queue's orders with its arguments but the owner, answer "ok", what the
order returns, or the sentence with which it is refused.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.service.conftest import PATIENCE, settings_for
from tests.service.handlers import small
from webui.core.errors import EaselError
from webui.core.request import GenerationRequest
from webui.service.service import Service, open_service


def main() -> None:
    service = open_service(settings_for(Path(sys.argv[1])), "tests.service.handlers:make")
    service.start()
    tell("up")
    for line in sys.stdin:
        tell(answer(service, *json.loads(line)))
    service.stop()


def answer(service: Service, word: str, job_id: str = "", *rest: Any) -> object:
    try:
        if word == "submit":
            return service.submit(request(*rest), job_id=job_id)
        if word == "edit":
            return service.queue.edit(job_id, request(*rest), None) or "ok"
        if word == "interrupt":
            return service.interrupt(job_id) or "ok"
        if word != "wait":
            given = [job_id, *rest] if job_id else []
            return getattr(service.queue, word)(*given, owner=None) or "ok"
    except EaselError as error:
        return str(error)
    job = service.wait(job_id, PATIENCE)
    return [job.status, [picture.seed for picture in job.pictures], job.error]


def request(prompt: str = "", seed: int = -1, batch_count: int = 1) -> GenerationRequest:
    return small(prompt=prompt, seed=seed, batch_count=batch_count)


def tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
