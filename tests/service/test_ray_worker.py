"""webui/service/ray_worker.py: the promises of a worker process, kept by actors of a Ray that runs on this machine."""

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.service.conftest import settings_for, until
from tests.service.handlers import ran, small
from tests.service.test_service import done, go
from tests.service.test_supervisor import one_step, two_held_jobs
from tests.test_app import BLOCKER
from webui.core.errors import EngineError
from webui.core.model_orders import WeightsOrder
from webui.core.settings import Settings
from webui.service.service import Service, open_service
from webui.service.workers import worker_openers

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is optional")
FACTORY = "tests.service.handlers:make"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Ray that the first `--ray` starts serves all tests of this module; where its processes note what other machines they ask for."""
    folder = tmp_path_factory.mktemp("blocker")
    (folder / "sitecustomize.py").write_text(BLOCKER.format(log=str(folder / "attempts.log")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        yield folder / "attempts.log"
    until(lambda: not any(thread.name == "easel-ray" for thread in threading.enumerate()))  # one that asks Ray now would connect again
    import ray

    ray.shutdown()


@pytest.fixture
def service(engine: Path, tmp_path: Path) -> Iterator[Service]:
    """Two CPU actors, ready."""
    made = open_service(replace(settings_for(tmp_path), ray="local", workers=2), FACTORY)
    made.start()
    until(lambda: all(supervisor.state == "ready" for supervisor in made._supervisors))
    yield made
    made.stop()


def actor_pid(service: Service, job_id: str) -> int:
    """The process that makes a running job."""
    number = next(i for i, each in enumerate(service._supervisors) if each.live and each.live.row.id == job_id)
    return int((service.settings.data_dir / f"worker{number or ''}.pid").read_text())


def test_two_actors_work_at_once_and_are_interrupted_one_by_one(service: Service) -> None:
    _, (first, second) = two_held_jobs(service)
    assert actor_pid(service, first) != actor_pid(service, second)
    assert service.preview(second) is None  # asking makes the actor send them
    one_step(service)
    service.interrupt(first)
    assert done(service, first).status == "interrupted"
    assert not service.job(second).ended
    service.interrupt(second)
    assert done(service, second).status == "interrupted"


def test_pictures_previews_and_memory_come_from_the_actor(service: Service) -> None:
    previews: set[int] = set()
    service.watch(lambda owner, job_id: previews.add(service.job(job_id).preview_seq))
    job = done(service, service.submit(small(prompt="a", seed=5, batch_count=2, steps=3)))
    assert (job.status, [picture.seed for picture in job.pictures]) == ("done", [5, 6])
    assert max(previews) == 8  # of each step of both batches, 0 to 3
    assert [each["device"] for each in service.status.memory()["cuda"]["workers"]] == ["Abacus", "Abacus"]


def test_every_actor_follows_orders_about_weights(service: Service) -> None:
    service.weights.keep(WeightsOrder(action="unload"))
    assert sorted(ran(service.settings.data_dir)) == ["unload |0", "unload |1"]


def test_a_job_whose_actor_is_killed_runs_again_and_the_other_is_untouched(service: Service) -> None:
    _, (first, second) = two_held_jobs(service)
    os.kill(actor_pid(service, first), signal.SIGKILL)
    until(lambda: sum("first" in line for line in ran(service.settings.data_dir)) == 2)
    assert not service.job(second).ended
    go(service)
    assert [done(service, job_id).status for job_id in (first, second)] == ["done", "done"]
    assert sorted(ran(service.settings.data_dir)) == ["hold first|5", "hold first|5", "hold second|5"]


def test_a_job_that_kills_every_actor_fails_with_a_sentence(service: Service) -> None:
    job = done(service, service.submit(small(prompt="die", batch_count=2)))
    assert job.status == "failed"
    assert "the worker died 2 times while making this (the Ray actor died: its worker process has died)" in job.error
    assert len(job.pictures) == 1
    assert done(service, service.submit(small())).status == "done"


def test_a_failing_factory_is_told(engine: Path, tmp_path: Path) -> None:
    service = open_service(replace(settings_for(tmp_path), ray="local"), "tests.service.handlers:never")
    service.start()
    until(lambda: "there is no device here; plug one in" in service.worker_state())
    service.stop()


def test_a_local_engine_listens_to_this_machine_alone(service: Service) -> None:
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_a_local_engine_asks_no_other_machine(service: Service, engine: Path) -> None:
    from webui.service.ray_worker import NO_PROXY_THERE

    time.sleep(2)  # its helpers ask soon after their start
    assert not engine.exists(), engine.read_text()
    assert NO_PROXY_THERE not in os.environ.values()


def test_without_ray_a_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="pip install ray"):
        worker_openers(replace(settings, ray="local"), FACTORY)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "127.0.0.1:port"])
def test_an_address_where_no_cluster_answers_is_told_in_a_sentence(settings: Settings, address: str) -> None:
    with pytest.raises(EngineError, match=f"no Ray cluster answers at '{address}'"):
        worker_openers(replace(settings, ray=address), FACTORY)


@pytest.mark.parametrize(
    ("cores", "count", "each"),
    [([8], 1, 8), ([8], 3, 2), ([1, 1], 2, 1), ([3, 3], 3, 1), ([8, 2], 3, 2), ([2], 5, 1), ([], 1, 1)],
)
def test_cores_are_shared_so_that_every_actor_finds_a_node(cores: list[int], count: int, each: int) -> None:
    from webui.service.ray_worker import share

    assert share(cores, count) == each
