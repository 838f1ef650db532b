"""webui/service/weights.py: every worker follows, after its present job, and what goes wrong is told."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.service.conftest import PATIENCE, until
from tests.service.handlers import ran, small
from tests.service.test_service import done, running
from webui.core.errors import EngineError, MissingModel, OutOfMemory
from webui.core.model_orders import WeightsOrder
from webui.service.service import Service

UNLOAD, RELOAD = WeightsOrder(action="unload"), WeightsOrder(action="reload", checkpoint="small")


def ready(service: Service) -> None:
    until(lambda: all(device.state == "ready" for device in service.status.now().devices))


def test_every_worker_follows_and_no_job_is_made_of_it(make_service: Callable[..., Service]) -> None:
    service = make_service(workers=2)
    ready(service)
    service.weights.keep(UNLOAD)
    assert sorted(ran(service.settings.data_dir)) == ["unload |0", "unload |1"]
    service.weights.keep(RELOAD)
    assert sorted(ran(service.settings.data_dir))[:2] == ["reload small.safetensors|0", "reload small.safetensors|1"]
    assert service.jobs(active_only=False) == []


def test_the_present_job_is_done_first_and_can_still_be_interrupted(service: Service) -> None:
    ready(service)
    job_id = service.submit(small(prompt="hold"))
    running(service, job_id)
    with ThreadPoolExecutor(1) as pool:
        order = pool.submit(service.weights.keep, UNLOAD)
        assert ran(service.settings.data_dir) == [f"hold|{service.job(job_id).request.seed}"]  # type: ignore[union-attr]
        assert not order.done()
        service.interrupt(job_id)
        assert done(service, job_id).status == "interrupted"
        order.result(PATIENCE)
    assert ran(service.settings.data_dir)[-1] == "unload |0"


def test_what_goes_wrong_is_told_as_it_is_and_the_worker_goes_on(service: Service) -> None:
    ready(service)
    (service.settings.data_dir / "full").touch()
    with pytest.raises(OutOfMemory, match="free some"):
        service.weights.keep(UNLOAD)
    with pytest.raises(MissingModel):
        service.weights.keep(WeightsOrder(action="reload", checkpoint="gone"))
    assert done(service, service.submit(small())).status == "done"


def test_a_worker_that_dies_of_it_is_told_and_replaced(service: Service) -> None:
    ready(service)
    (service.settings.data_dir / "deadly").touch()
    with pytest.raises(EngineError, match="killed by signal 9"):
        service.weights.keep(UNLOAD)
    assert done(service, service.submit(small())).status == "done"
