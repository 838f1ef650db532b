"""A server to be killed: `python -m tests.service.server DATA_DIR` starts a service and takes commands, one JSON list a line.

["submit", id, prompt, seed, batch_count] answers the id once it is acknowledged; ["wait", id] answers [status, seeds, error].
"""

import json
import sys
from pathlib import Path

from tests.service.conftest import PATIENCE, settings_for
from tests.service.handlers import small
from webui.core.errors import EaselError
from webui.service.service import Service, open_service


def main() -> None:
    service = open_service(settings_for(Path(sys.argv[1])), "tests.service.handlers:make")
    service.start()
    tell("up")
    for line in sys.stdin:
        tell(answer(service, *json.loads(line)))
    service.stop()


def answer(service: Service, word: str, job_id: str, prompt: str = "", seed: int = -1, batch_count: int = 1) -> object:
    if word == "submit":
        try:
            return service.submit(small(prompt=prompt, seed=seed, batch_count=batch_count), job_id=job_id)
        except EaselError as error:
            return str(error)
    job = service.wait(job_id, PATIENCE)
    return [job.status, [picture.seed for picture in job.pictures], job.error]


def tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
