"""webui/service/status.py."""

from collections.abc import Callable

from tests.service.conftest import until
from tests.service.handlers import small
from tests.service.test_service import done, go
from webui.service.service import Service
from webui.service.status import DeviceStatus


def test_the_status_tells_devices_and_numbers_of_jobs(make_service: Callable[..., Service]) -> None:
    service = make_service(workers=2)
    until(lambda: all(device.total for device in service.status.now().devices))
    assert service.status.now().devices == (DeviceStatus("Abacus", "desk", "ready", False, True, 3, 7),) * 2
    jobs = [service.submit(small(prompt="hold")) for _ in range(3)]
    until(lambda: service.status.now().running == 2)
    status = service.status.now()
    assert ([device.busy for device in status.devices], status.waiting) == ([True, True], 1)
    go(service)
    for job_id in jobs:
        done(service, job_id)
    until(lambda: service.status.now().running == 0)
    assert service.status.now().waiting == 0


def test_workers_are_not_asked_at_every_look(service: Service) -> None:
    until(lambda: service.worker_state() == "ready")
    asked = []
    supervisor = service._supervisors[0]
    ask = supervisor.ask
    supervisor.ask = lambda: (asked.append(1), ask())[1]  # type: ignore[method-assign]
    for _ in range(100):
        service.status.now()
    assert len(asked) <= 1
