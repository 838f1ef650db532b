"""webui/ui/queue.py: a waiting job's request as widgets, and back."""

import base64
from dataclasses import replace

import pytest

from tests.api.conftest import png
from tests.service.handlers import small
from webui.core.errors import NotAllowed
from webui.core.model_orders import SaveOrder
from webui.core.request import InitImage, Inpaint
from webui.service.service import Service
from webui.ui import actions, queue
from webui.ui.fields import FIELDS, QUICK, TABS, collect

ME, OTHER = "browser-one", "browser-two"
NAMES = (*TABS["txt2img"], *QUICK)


def test_a_job_that_is_put_back_unchanged_stays_the_same(service: Service) -> None:
    job_id = service.submit(small(prompt="a cat", seed=5, steps=7, cfg_scale=3.5), owner=ME)
    before = service.job(job_id).request
    values, said = queue.values_of(service, "txt2img", ME, job_id, NAMES)
    assert said == []
    shown = {name: FIELDS[name].default for name in NAMES} | values
    assert actions.generate(service, "txt2img", {"client": ME, "edits": job_id}, shown) == []
    assert service.job(job_id).request == before
    assert len(service.jobs()) == 1


def test_prompts_are_shown_as_they_were_before_chance_decided(service: Service) -> None:
    job_id = service.submit(small(prompt="a {cat|dog}", seed=5), owner=ME)
    values, _ = queue.values_of(service, "txt2img", ME, job_id, NAMES)
    assert values["prompt"] == "a {cat|dog}"


def test_what_cannot_be_edited_says_why(service: Service) -> None:
    ended = service.submit(small(), owner=ME)
    service.interrupt(ended)
    order = service.submit(SaveOrder(checkpoint=service.catalog.checkpoints()[0].name, name="copy"), owner=ME)
    for job_id, told in ((ended, "does not wait any more"), (order, "only jobs for pictures"), ("none", "there is no job")):
        values, said = queue.values_of(service, "txt2img", ME, job_id, NAMES)
        assert values == {}
        assert told in said[0]


def test_on_a_shared_server_nobody_edits_anothers_job(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = service.submit(small(prompt="mine"), owner=ME)
    monkeypatch.setattr(service, "settings", replace(service.settings, host="0.0.0.0"))
    values, said = queue.values_of(service, "txt2img", OTHER, job_id, NAMES)
    assert (values, "somebody else" in said[0]) == ({}, True)
    with pytest.raises(NotAllowed):
        queue.put_back(service, OTHER, job_id, small(prompt="theirs"))
    assert service.job(job_id).request.prompt == "mine"  # type: ignore[union-attr]


def test_the_old_mask_stays_with_the_old_picture_only(service: Service) -> None:
    picture = service.add_input(base64.b64decode(png()))
    request = replace(small(), init=InitImage(image=picture, inpaint=Inpaint(mask=picture)))
    job_id = service.submit(request, owner=ME)
    assert queue.mask_of(service, {"client": ME, "edits": job_id, "image": picture}) == picture
    assert queue.mask_of(service, {"client": ME, "edits": job_id, "image": "0" * 64}) == ""


def test_after_editing_the_tab_shows_what_the_browser_kept(service: Service) -> None:
    drafts = {"txt2img": {"prompt": "my draft", "steps": 9}}
    values = actions.kept_values(service, "txt2img", drafts)
    assert (values["prompt"], values["steps"], values["cfg_scale"], values["vae"].value) == ("my draft", 9, 7.0, "Automatic")
    assert set(values) == set(NAMES)
    assert collect({name: values[name] for name in ("prompt", "steps")}).steps == 9
