"""The scripts, by title: pure functions from a request and arguments to a plan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from webui.core.errors import BadRequest
from webui.core.key_values import short
from webui.core.request import GenerationRequest
from webui.core.scripts import loopback, outpainting, prompt_matrix, prompts_from_file, sd_upscale, xyz_plot
from webui.core.scripts.arguments import Argument, read_arguments
from webui.core.scripts.plan import Draw, Plan

BOTH = ("txt2img", "img2img")


@dataclass(frozen=True)
class Script:
    """title: what page and API know it by; tabs: where it is offered."""

    title: str
    tabs: tuple[str, ...]
    arguments: Callable[[str], tuple[Argument, ...]]  # tab -> in the API's order
    make_plan: Callable[[GenerationRequest, Mapping[str, Any], Draw], Plan]

    def plan(self, request: GenerationRequest, given: Mapping[str, Any], draw: Draw) -> Plan:
        """The plan for `request`, whose seeds, size and models may still be open. draw: gives random seeds. Raises BadRequest."""
        tab = "img2img" if request.init else "txt2img"
        if tab not in self.tabs:
            raise BadRequest(f"{self.title} is not offered in {tab}; use it in {' or '.join(self.tabs)}")
        return self.make_plan(request, read_arguments(self.arguments(tab), given), draw)


def _row(module: ModuleType, *tabs: str) -> Script:
    return Script(module.TITLE, tabs, module.arguments, module.plan)


SCRIPTS: dict[str, Script] = {
    script.title: script
    for script in (
        _row(xyz_plot, *BOTH),
        _row(prompt_matrix, *BOTH),
        _row(prompts_from_file, *BOTH),
        _row(loopback, "img2img"),
        _row(sd_upscale, "img2img"),
        Script(outpainting.MK2, ("img2img",), outpainting.mk2_arguments, outpainting.mk2),
        Script(outpainting.POOR_MANS, ("img2img",), outpainting.poor_mans_arguments, outpainting.poor_mans),
    )
}


def find_script(title: str, tab: str = "") -> Script:
    """By its title, case ignored; tab: where it must be offered, if that matters. Raises BadRequest."""
    for script in SCRIPTS.values():
        if script.title.casefold() == title.strip().casefold() and (not tab or tab in script.tabs):
            return script
    offered = ", ".join(script.title for script in SCRIPTS.values() if not tab or tab in script.tabs)
    raise BadRequest(f"Script '{short(title)}' not found; use one of: {offered}")
