"""webui/service/ray_worker.py on two nodes: what lies between machines, and a machine that goes away."""

import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.service.conftest import PATIENCE, settings_for, until
from tests.service.handlers import ran, small
from tests.service.test_service import done, go
from webui.core.event import Failed, Finished
from webui.core.image_metadata import encode
from webui.core.request import InitImage
from webui.core.settings import Settings
from webui.service.inputs import InputStore, inputs_folder
from webui.service.service import Service, open_service
from webui.service.worker import Waker
from webui.service.workers import ALONE, LOOPBACK_ONLY, worker_openers

pytestmark = [pytest.mark.slow, pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is optional")]
FACTORY = "tests.service.handlers:make"
SMALL_NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head, on whose node the server is, and one more node, with a core each: room for one actor on each of them."""
    for name, value in (ALONE | LOOPBACK_ONLY).items():
        monkeypatch.setenv(name, value)
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=SMALL_NODE | {"include_dashboard": False})
    made.second = made.add_node(**SMALL_NODE)
    yield made
    until(lambda: not any(thread.name == "easel-ray" for thread in threading.enumerate()))  # one that asks Ray now would connect again
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def settings(cluster: Any, tmp_path: Path) -> Settings:
    return replace(settings_for(tmp_path), ray=cluster.address, workers=2)


def is_elsewhere(service: Service, job_id: str) -> bool:
    """Whether a running job is on the second node."""
    return any(each._worker._elsewhere for each in service._supervisors if each.live and each.live.row.id == job_id)  # type: ignore[union-attr]


def test_a_job_whose_node_is_removed_runs_again_on_the_other(cluster: Any, settings: Settings) -> None:
    service = open_service(settings, FACTORY)
    service.start()
    until(lambda: all(each.state == "ready" for each in service._supervisors))
    jobs = [service.submit(small(prompt=f"hold {name}", seed=5)) for name in ("first", "second")]
    until(lambda: all(service.job(job_id).progress for job_id in jobs))
    lost, kept = sorted(jobs, key=lambda job_id: is_elsewhere(service, job_id), reverse=True)
    assert (is_elsewhere(service, lost), is_elsewhere(service, kept)) == (True, False)
    cluster.remove_node(cluster.second, allow_graceful=False)
    until(lambda: service.job(lost).status == "queued")
    assert service.worker_state() == "ready"  # of the other one
    go(service)
    assert [done(service, job_id).status for job_id in (kept, lost)] == ["done", "done"]
    assert len(ran(settings.data_dir)) == 3
    assert {len(service.job(job_id).pictures) for job_id in jobs} == {1}
    states = [each.state for each in service._supervisors]
    assert any(state.startswith("restarting: the Ray actor died") for state in states)
    cluster.add_node(**SMALL_NODE)
    until(lambda: all(each.state == "ready" for each in service._supervisors))
    service.stop()


def test_input_pictures_travel_with_the_job_to_another_node(settings: Settings, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"  # the other machine's disk
    here = InputStore(inputs_folder(settings.data_dir))
    sha256 = here.add(encode(Image.new("RGB", (64, 64), "red"), "", "png"))
    workers: list[Any] = [opener() for opener in worker_openers(replace(settings, data_dir=elsewhere), FACTORY)]
    waker = Waker()
    for worker in workers:
        elsewhere.mkdir(exist_ok=True)
        worker._inputs = here
        assert next_message(worker, waker) == ("ready",)
    (remote,) = [worker for worker in workers if worker._elsewhere]
    remote.send("run", "a", small(init=InitImage(image=sha256)), False, 1)
    until(lambda: isinstance(next_message(remote, waker)[-1], Finished))
    assert InputStore(inputs_folder(elsewhere)).open(sha256).getpixel((0, 0)) == (255, 0, 0)
    (elsewhere / "inputs").rename(elsewhere / "away")
    (elsewhere / "inputs").write_text("in the way")
    remote.send("run", "b", small(init=InitImage(image=sha256)), False, 1)
    word, job_id, event = next_message(remote, waker)
    assert (word, job_id, isinstance(event, Failed)) == ("event", "b", True)
    assert [worker.end().to_blame for worker in workers] == [True, True]
    waker.close()


def next_message(worker: Any, waker: Waker) -> Any:
    return until(lambda: worker.receive(waker, PATIENCE))
