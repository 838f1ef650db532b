"""Several workers with the miniature: they work at once, and what they make is what one worker makes, with as many threads.

With other numbers of threads the CPU rounds differently: pictures then differ by as little as between two machines.
"""

import importlib.util
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.service.conftest import until
from webui.core.recipe import pixel_hash
from webui.core.request import GenerationRequest
from webui.core.settings import parse_flags
from webui.service.service import Service, open_service

LONG = 300.0  # seconds until a test gives up


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Service]:
    """Easel with these flags, its workers ready."""
    folder.mkdir(parents=True, exist_ok=True)
    service = open_service(parse_flags(["--data-dir", str(folder), "--use-cpu", *flags], {}), "webui.build:make_handlers")
    service.start()
    try:
        until(lambda: all(supervisor.state == "ready" for supervisor in service._supervisors))
        yield service
    finally:
        service.stop()


def circle(seed: int, steps: int = 100, side: int = 128) -> GenerationRequest:
    """So many steps that no scheduler lets one worker make them all before another has made its first."""
    prompt = "a red circle on a blue background"
    return GenerationRequest(prompt=prompt, width=side, height=side, steps=steps, sampler="Euler a", seed=seed)


def pixels(service: Service, job_id: str) -> str:
    job = service.wait(job_id, LONG)
    assert job.status == "done", job.error
    return pixel_hash(Image.open(job.pictures[0].path))


def made_by_one_worker(folder: Path) -> list[str]:
    with serving(folder) as service:
        return [pixels(service, service.submit(circle(seed))) for seed in (1, 2)]


def made_by_two_at_once(service: Service) -> list[str]:
    """The same pictures, one of them made again after its worker was killed in the middle."""
    pids = [supervisor.answer(2.0)["pid"] for supervisor in asked(service)]
    jobs = [service.submit(circle(seed)) for seed in (1, 2)]
    until(lambda: all((told := service.job(job_id).progress) and 1 <= told.step < told.steps for job_id in jobs))  # both on their way
    holders = {each.live.row.id: pid for each, pid in zip(service._supervisors, pids, strict=True) if each.live}
    os.kill(holders[jobs[0]], signal.SIGKILL)
    until(lambda: service._queue.get(jobs[0]).deaths == 1)
    found = [pixels(service, job_id) for job_id in jobs]
    assert [service._queue.get(job_id).deaths for job_id in jobs] == [1, 0]
    return found


def asked(service: Service) -> list:
    for supervisor in service._supervisors:
        supervisor.ask()
    return service._supervisors


@pytest.mark.slow
def test_two_workers_make_at_once_what_one_makes_also_after_a_kill(tmp_path: Path) -> None:
    expected = made_by_one_worker(tmp_path / "one")
    with serving(tmp_path / "two", "--workers", "2") as service:
        assert made_by_two_at_once(service) == expected


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is optional")
def test_two_ray_actors_make_at_once_what_one_worker_makes_and_stop_within_a_step(tmp_path: Path) -> None:
    expected = made_by_one_worker(tmp_path / "one")
    with serving(tmp_path / "two", "--ray", "--workers", "2") as service:
        assert made_by_two_at_once(service) == expected
        told: list[int] = []
        previews: set[int] = set()

        def listen(owner: str, job_id: str) -> None:
            job = service.job(job_id)
            told.append(job.progress.step if job.progress else 0)
            previews.add(job.preview_seq)

        service.watch(listen)
        job_id = service.submit(circle(1, steps=900, side=256))  # steps that take much longer than a word to an actor
        until(lambda: told and told[-1] >= 5)
        service.interrupt(job_id)
        asked_at = told[-1]
        assert service.wait(job_id, LONG).status == "interrupted"
        assert max(told) <= asked_at + 2  # the step that was being made, and one that was told meanwhile
        assert max(previews) >= 5
    import ray

    ray.shutdown()
