"""The Queue tab: what runs, waits and has ended; and a waiting job taken into its own tab, to be changed there and put back."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from webui.core.errors import BadRequest, EaselError
from webui.core.request import GenerationRequest
from webui.service.job import Job
from webui.service.service import Service
from webui.service.wording import before_chance
from webui.ui.fields import QUICK, TABS, spread


def build() -> None:
    gr.HTML(
        html_template="<section class='queue-panel' aria-label='Queue'></section>",
        js_on_load="easel.queueView(element.querySelector('.queue-panel'))",
        elem_id="queue_panel",
    )


def values_of(service: Service, tab: str, client: str, job_id: str, names: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """Widget values (field name -> value) that show a waiting job's request in its tab, and what is wrong, [] if nothing."""
    try:
        request = _editable(service, client, job_id).request
    except EaselError as error:
        return {}, [str(error)]
    assert isinstance(request, GenerationRequest)
    return spread(before_chance(request), tuple(name for name in (*TABS[tab], *QUICK) if name in names)), []


def put_back(service: Service, client: str, job_id: str, request: GenerationRequest) -> None:
    """Give a waiting job the request that its tab shows now. Raises BadRequest, NotAllowed, TooLate."""
    service.queue.edit(job_id, request, scope_of(service, client))


def mask_of(service: Service, page: Mapping[str, Any]) -> str:
    """The mask that the edited job has, where its picture is still the one on the canvas; "" else."""
    request = _editable(service, str(page.get("client", "")), str(page["edits"])).request
    init = request.init if isinstance(request, GenerationRequest) else None
    same = init is not None and init.inpaint is not None and init.image == page.get("image")
    return init.inpaint.mask if same and init and init.inpaint else ""


def scope_of(service: Service, client: str) -> str | None:
    """The owner whose jobs a browser may change; None: everybody's, for the only user of this machine."""
    return None if service.settings.single_user else client


def _editable(service: Service, client: str, job_id: str) -> Job:
    job = service.job(job_id)
    scope = scope_of(service, client)
    if scope is not None and job.owner != scope:
        raise BadRequest("this job belongs to somebody else; only they may change it")
    if not isinstance(job.request, GenerationRequest):
        raise BadRequest("only jobs for pictures can be edited; duplicate this one, or cancel it and order it anew")
    if job.status != "queued":
        raise BadRequest("this job does not wait any more; duplicate it instead")
    return job
