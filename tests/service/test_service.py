"""webui/service/service.py: what UI and API rely on, with a worker process that needs no torch."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.service.conftest import PATIENCE, until
from tests.service.handlers import ran, small
from webui.core.errors import BadRequest, Busy, MissingModel, NotAllowed
from webui.core.image_metadata import read_infotext
from webui.core.model_orders import MergeRecipe, SaveOrder
from webui.core.preferences import PREFERENCES
from webui.core.settings import Settings
from webui.service.model_rows import CardSearch
from webui.service.service import Job, Service

Make = Callable[..., Service]


def done(service: Service, job_id: str) -> Job:
    job = service.wait(job_id, PATIENCE)
    assert job.ended, f"{job.status}: {job.text}"
    return job


def running(service: Service, job_id: str) -> Job:
    """The job, once it is held in its first step."""
    until(lambda: (service.settings.data_dir / "holding").exists())
    return until(lambda: (job := service.job(job_id)).progress and job)


def go(service: Service) -> None:
    (service.settings.data_dir / "go").touch()


# one job


def test_a_job_goes_from_the_queue_to_pictures_on_disk(service: Service) -> None:
    job = done(service, service.submit(small(prompt="a red circle", seed=5, batch_count=2), owner="ann"))
    assert (job.status, job.owner, job.error, job.fraction, job.text) == ("done", "ann", "", 1.0, "Done")
    assert [picture.seed for picture in job.pictures] == [5, 6]
    for picture in job.pictures:
        assert picture.path.parent.parent == service.settings.outputs_dir
        assert read_infotext(picture.path).text == picture.infotext == f"a red circle\nSteps: 1, Seed: {picture.seed}"
        assert (picture.width, picture.height) == (64, 64)


def test_a_watcher_hears_of_every_state(service: Service) -> None:
    seen: list[tuple[str, int, float]] = []
    heard = threading.Event()

    def listen(owner: str, job_id: str) -> None:
        job = service.job(job_id)
        seen.append((job.status, job.seq, job.fraction))
        if job.ended:
            heard.set()

    unwatch = service.watch(listen)
    done(service, service.submit(small(prompt="x")))
    assert heard.wait(PATIENCE)
    unwatch()
    statuses = list(dict.fromkeys(status for status, _, _ in seen))
    assert [status for status in statuses if status != "queued"] == ["running", "saving", "done"]
    assert [seq for _, seq, _ in seen] == sorted(seq for _, seq, _ in seen)
    count = len(seen)
    done(service, service.submit(small(prompt="y")))
    assert len(seen) == count


def test_a_listener_that_fails_disturbs_nobody(service: Service) -> None:
    def listen(owner: str, job_id: str) -> None:
        raise RuntimeError

    service.watch(listen)
    assert done(service, service.submit(small())).status == "done"


def test_progress_and_previews_are_seen_while_it_runs(service: Service) -> None:
    job_id = service.submit(small(prompt="hold", steps=4))
    job = running(service, job_id)
    assert job.status == "running"
    assert (job.progress and job.progress.steps, job.fraction, job.preview_seq) == (4, 0.0, 0)
    assert service.preview(job_id) is None
    (service.settings.data_dir / "step").touch()
    assert until(lambda: service.preview(job_id)) == b"preview 1 1"
    job = service.job(job_id)
    assert (job.fraction, job.text, job.preview_seq) == (0.25, "Step 1 of 4", 1)
    assert job.eta is not None
    go(service)
    done(service, job_id)
    assert service.preview(job_id) is None


def test_nobody_watching_means_no_previews(service: Service) -> None:
    job_id = service.submit(small(prompt="hold", steps=4))
    running(service, job_id)
    (service.settings.data_dir / "step").touch()
    assert until(lambda: service.job(job_id).fraction == 0.25)
    assert service.job(job_id).preview_seq == 0
    go(service)


def test_previews_can_be_switched_off_and_thinned_out(service: Service) -> None:
    latest: dict[str, int] = {}
    service.watch(lambda owner, job_id: latest.update({job_id: max(latest.get(job_id, 0), service.job(job_id).preview_seq)}))
    every = service.submit(small(steps=4), job_id="every")
    done(service, every)
    service.set_preferences({"show_progress_every_n_steps": 2})
    second = service.submit(small(steps=4), job_id="second")
    done(service, second)
    service.set_preferences({"live_previews_enable": False})
    off = service.submit(small(steps=4), job_id="off")
    done(service, off)
    assert (latest["every"], latest["second"], latest["off"]) == (5, 3, 0)


def test_a_handler_that_ends_silently_is_done(service: Service) -> None:
    assert done(service, service.submit(small(prompt="quiet"))).status == "done"


@pytest.mark.parametrize(
    ("prompt", "sentence", "status", "name"),
    [
        ("fail", "this cannot be drawn; ask for something else", 422, "BadRequest"),
        ("crash", "generation failed: ValueError: a defect", 500, "EngineError"),
        ("tell", "it went wrong", 507, "EngineError"),
    ],
)
def test_a_failing_job_keeps_its_sentence_and_the_next_one_runs(
    service: Service, prompt: str, sentence: str, status: int, name: str
) -> None:
    job = done(service, service.submit(small(prompt=prompt)))
    assert job.error_name == name
    assert (job.status, job.error, job.error_status, job.text) == ("failed", sentence, status, sentence)
    assert done(service, service.submit(small())).status == "done"


def test_a_request_that_no_handler_takes_fails_with_a_sentence(make_service: Make) -> None:
    service = make_service("other")
    assert "cannot run a GenerationRequest" in done(service, service.submit(small())).error


def test_bad_requests_are_refused_at_once(service: Service) -> None:
    with pytest.raises(BadRequest, match="width 65"):
        service.submit(small(width=65))
    with pytest.raises(BadRequest, match="steps 0"):
        service.submit(small(steps=0))
    assert service.jobs(active_only=False) == []


def test_an_id_of_ones_own_is_used_once(service: Service) -> None:
    assert service.submit(small(), job_id="task(abc-1)") == "task(abc-1)"
    with pytest.raises(BadRequest, match="exists already"):
        service.submit(small(), job_id="task(abc-1)")
    for wrong in ("", "a/b", "x" * 101, "a b", "é"):
        with pytest.raises(BadRequest, match="job id"):
            service.submit(small(), job_id=wrong)


def test_unknown_jobs_and_pictures_are_sentences(service: Service) -> None:
    for ask in (service.job, service.interrupt, service.skip, service.wait):
        with pytest.raises(MissingModel, match="nobody"):
            ask("nobody")
    with pytest.raises(MissingModel, match="77"):
        service.picture(77)
    assert service.preview("nobody") is None


def test_wait_returns_at_its_timeout(service: Service) -> None:
    job_id = service.submit(small(prompt="hold"))
    assert not service.wait(job_id, 0.05).ended
    service.interrupt(job_id)


# interrupt and skip


def test_interrupt_stops_within_a_step_and_keeps_finished_pictures(service: Service) -> None:
    job_id = service.submit(small(prompt="hold", batch_count=3, steps=1))
    running(service, job_id)
    for _ in range(2):  # two held steps make the first batch
        (service.settings.data_dir / "step").touch()
        until(lambda: not (service.settings.data_dir / "step").exists())
    until(lambda: len(service.job(job_id).pictures) == 1)
    service.interrupt(job_id)
    job = done(service, job_id)
    assert (job.status, len(job.pictures)) == ("interrupted", 1)


def test_a_late_interrupt_does_not_meet_the_next_job(service: Service) -> None:
    first = service.submit(small())
    done(service, first)
    second = service.submit(small(prompt="hold"))
    running(service, second)
    service.interrupt(first)
    service.skip(first)
    go(service)
    job = done(service, second)
    assert (job.status, len(job.pictures), service.job(first).status) == ("done", 1, "done")


def test_a_waiting_job_that_is_interrupted_never_runs(service: Service) -> None:
    first = service.submit(small(prompt="hold"))
    running(service, first)
    second = service.submit(small(prompt="second"))
    service.interrupt(second)
    assert done(service, second).status == "interrupted"
    go(service)
    done(service, first)
    assert not any("second" in line for line in ran(service.settings.data_dir))


def test_interrupt_without_an_id_stops_what_runs(service: Service) -> None:
    first = service.submit(small(prompt="hold"), owner="ann")
    running(service, first)
    service.interrupt(owner="bob")
    assert not service.job(first).interrupt_asked
    service.interrupt()
    assert done(service, first).status == "interrupted"
    service.interrupt()


def test_skip_drops_one_batch_and_goes_on(service: Service) -> None:
    job_id = service.submit(small(prompt="hold", seed=10, batch_count=3))
    running(service, job_id)
    service.skip(job_id)
    (service.settings.data_dir / "step").touch()
    until(lambda: (told := service.job(job_id).progress) and told.batch == 2)
    go(service)
    job = done(service, job_id)
    assert (job.status, [picture.seed for picture in job.pictures]) == ("done", [11, 12])


def test_others_may_not_touch_a_job(service: Service) -> None:
    job_id = service.submit(small(prompt="hold"), owner="ann")
    running(service, job_id)
    for ask in (service.interrupt, service.skip):
        with pytest.raises(NotAllowed):
            ask(job_id, owner="bob")
    service.interrupt(job_id, owner="ann")
    assert done(service, job_id).status == "interrupted"


# the queue


def test_owners_take_turns_in_the_worker(service: Service) -> None:
    first = service.submit(small(prompt="hold"), owner="ann")
    running(service, first)
    ids = [service.submit(small(prompt=f"ann{i}", seed=1), owner="ann") for i in range(3)]
    ids += [service.submit(small(prompt=f"bob{i}", seed=1), owner="bob") for i in range(2)]
    assert [service.job(job_id).ahead for job_id in ids] == [2, 4, 5, 1, 3]
    assert service.job(ids[0]).text == "In queue, 2 ahead"
    assert [job.id for job in service.jobs("bob")] == ids[3:]
    go(service)
    for job_id in ids:
        done(service, job_id)
    assert ran(service.settings.data_dir)[1:] == ["bob0|1", "ann0|1", "bob1|1", "ann1|1", "ann2|1"]
    assert service.jobs() == []
    assert len(service.jobs(active_only=False)) == 6


def test_a_full_queue_is_busy_and_recovers(make_service: Make) -> None:
    service = make_service(queue_limit=1)
    first = service.submit(small(prompt="hold"))
    running(service, first)
    second = service.submit(small())
    with pytest.raises(Busy, match="queue is full"):
        service.submit(small())
    go(service)
    done(service, second)
    assert done(service, service.submit(small())).status == "done"


def test_many_threads_get_each_their_own_picture(service: Service) -> None:
    found: dict[int, tuple[str, list[int]]] = {}

    def client(seed: int) -> None:
        job = done(service, service.submit(small(seed=seed, prompt=f"p{seed}"), owner=f"o{seed % 3}"))
        found[seed] = (job.pictures[0].infotext, [picture.seed for picture in job.pictures])

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == {seed: (f"p{seed}\nSteps: 1, Seed: {seed}", [seed]) for seed in range(12)}


def test_two_workers_work_at_the_same_time(make_service: Make) -> None:
    service = make_service(workers=2)
    jobs = [service.submit(small(prompt="hold")) for _ in range(2)]
    until(lambda: all(service.job(job_id).progress for job_id in jobs))
    service.interrupt(jobs[0])
    assert done(service, jobs[0]).status == "interrupted"
    assert not service.job(jobs[1]).ended
    service.interrupt()
    assert done(service, jobs[1]).status == "interrupted"


# what stays


def test_a_job_that_is_not_saved_has_pictures_outside_the_outputs(service: Service) -> None:
    kept = done(service, service.submit(small()))
    job = done(service, service.submit(small(seed=3), save=False))
    assert read_infotext(job.pictures[0].path).text == job.pictures[0].infotext
    assert not job.pictures[0].path.is_relative_to(service.settings.outputs_dir)
    assert [picture.id for picture in service.recent_pictures()] == [kept.pictures[0].id]
    assert service.picture(job.pictures[0].id) == job.pictures[0]


def test_preferences_are_checked_and_stay(make_service: Make) -> None:
    service = make_service()
    assert service.preferences() == {preference.name: preference.default for preference in PREFERENCES}
    with pytest.raises(BadRequest, match="nonsense"):
        service.set_preferences({"jpeg_quality": 50, "nonsense": 1})
    with pytest.raises(MissingModel):
        service.set_preferences({"sd_model_checkpoint": "absent"})
    assert service.preferences()["jpeg_quality"] == 80
    service.set_preferences({"jpeg_quality": "50", "samples_format": "webp", "sd_model_checkpoint": "small", "sd_vae": "None"})
    service.stop()
    again = make_service()
    assert again.preferences()["sd_model_checkpoint"] == "small.safetensors"
    assert again.preferences()["jpeg_quality"] == 50
    assert done(again, again.submit(small())).pictures[0].path.suffix == ".webp"


def test_memory_tells_ram_and_what_the_worker_says(service: Service) -> None:
    until(lambda: service.worker_state() == "ready")
    told = service.status.memory()
    assert told["ram"]["total"] == psutil.virtual_memory().total
    assert told["cuda"] == {"system": {"total": 7, "used": 3}}
    job_id = service.submit(small(prompt="hold"))
    running(service, job_id)
    assert service.status.memory()["cuda"] == {"system": {"total": 7, "used": 3}}
    go(service)
    done(service, job_id)


def test_stop_lets_those_who_wait_go_however_late_they_wake(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = service.submit(small(prompt="hold"))
    running(service, job_id)
    waits, woken = threading.Event(), service._ended.wait

    def late(timeout: float | None) -> bool:
        waits.set()
        told = woken(timeout)
        service._ended.release()
        time.sleep(1)
        service._ended.acquire()
        return told

    monkeypatch.setattr(service._ended, "wait", late)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(service.wait, job_id)
        assert waits.wait(PATIENCE)
        service.stop()
        assert not answer.result(PATIENCE).ended


def test_release_lets_those_who_wait_go_while_the_job_goes_on(service: Service) -> None:
    job_id = service.submit(small(prompt="hold"))
    running(service, job_id)
    answers: list[Job] = []
    waiting = threading.Thread(target=lambda: answers.append(service.wait(job_id)))
    waiting.start()
    service.release()
    waiting.join(PATIENCE)
    assert not answers[0].ended
    assert not service.wait(job_id).ended
    go(service)
    until(lambda: service.job(job_id).status == "done")


def test_the_server_side_never_imports_torch_gradio_or_fastapi(settings: Settings) -> None:
    code = (
        "import sys; from webui.service.service import open_service;"
        "print([name for name in ('torch', 'gradio', 'fastapi', 'diffusers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert found.stdout.strip() == "[]"


def test_whoever_sees_that_a_checkpoint_is_written_finds_it_in_the_lists(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    refreshing, go_on = threading.Event(), threading.Event()

    def slowly(refresh: Callable[[], None] = service.catalog.refresh) -> None:
        refreshing.set()
        assert go_on.wait(PATIENCE)
        refresh()

    monkeypatch.setattr(service.catalog, "refresh", slowly)
    job_id = service.submit(SaveOrder(checkpoint="small", name="new"))
    assert refreshing.wait(PATIENCE)
    assert not service.job(job_id).ended
    go_on.set()
    job = done(service, job_id)
    assert (job.status, job.fraction) == ("done", 1.0)
    assert "new.safetensors" in [file.name for file in service.catalog.checkpoints()]
    assert [card.name for card in service.models.search(CardSearch("checkpoint", "new")).cards] == ["new.safetensors"]


def test_lists_that_cannot_be_refreshed_do_not_keep_a_job_from_its_end(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("the folder is gone")

    monkeypatch.setattr(service.catalog, "refresh", broken)
    assert done(service, service.submit(SaveOrder(checkpoint="small", name="new"))).status == "done"
    assert (service.settings.checkpoint_dirs[0] / "new.safetensors").exists()


def test_a_job_of_another_kind_tells_what_it_does_and_can_be_stopped(service: Service) -> None:
    job_id = service.submit(SaveOrder(checkpoint="small", name="hold"))
    assert until(lambda: service.job(job_id).fraction and service.job(job_id)).text == "writing hold, 50 %"
    service.interrupt(job_id)
    assert done(service, job_id).status == "interrupted"


def test_orders_name_what_is_here(service: Service) -> None:
    with pytest.raises(MissingModel, match="nowhere"):
        service.submit(MergeRecipe(primary="small", secondary="nowhere"))
    with pytest.raises(BadRequest, match="needs a checkpoint B"):
        service.submit(MergeRecipe(primary="small"))
    job_id = service.submit(MergeRecipe(primary="small", method="No interpolation", secondary="nowhere"))
    request = service.job(job_id).request
    assert isinstance(request, MergeRecipe)
    assert request.primary == "small.safetensors"
