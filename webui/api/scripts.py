"""Scripts on the wire: by title and positional arguments in requests, as lists in /sdapi/v1/scripts and script-info."""

from collections.abc import Sequence
from dataclasses import replace

from webui.api.convert import BUILT_IN
from webui.api.refiner import TITLE
from webui.api.repainting import SOFT
from webui.api.schemas import Generation, Img2Img, ScriptArgument, ScriptInfo, Scripts
from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest
from webui.core.scripts.arguments import Argument, by_position
from webui.core.scripts.request import ScriptRequest
from webui.core.scripts.table import SCRIPTS, Script, find_script

TABS = ("txt2img", "img2img")


def to_script(body: Generation, requests: Sequence[GenerationRequest], upscalers: Sequence[str]) -> ScriptRequest | None:
    """The script that `body` names, over the request that it asks for; None where it names none. Raises BadRequest.

    upscalers: the names of the model files here.
    """
    if not (body.script_name or "").strip():
        return None
    tab = "img2img" if isinstance(body, Img2Img) else "txt2img"
    script = find_script(body.script_name or "", tab)
    if len(requests) > 1:
        raise BadRequest(f"{script.title} begins with one picture, and init_images holds several; send one")
    arguments = by_position(script.title, _arguments(script, tab, upscalers), body.script_args)
    return ScriptRequest(base=requests[0], script=script.title, arguments=arguments)


def script_lists() -> Scripts:
    """The titles in lower case, for each tab; first those that are always on, by which clients see what they may send."""
    titles = {tab: [script.title.lower() for script in SCRIPTS.values() if tab in script.tabs] for tab in TABS}
    always = sorted((*BUILT_IN, TITLE))
    return Scripts(txt2img=[*always, *titles["txt2img"]], img2img=[*always, SOFT, *titles["img2img"]])


def script_infos(upscalers: Sequence[str]) -> list[ScriptInfo]:
    """Every script in every tab where it is offered, with its arguments in the order of `script_args`. upscalers: as in `to_script`."""
    return [
        ScriptInfo(name=script.title.lower(), is_alwayson=False, is_img2img=tab == "img2img", args=_script_args(script, tab, upscalers))
        for tab in TABS
        for script in SCRIPTS.values()
        if tab in script.tabs
    ]


def _script_args(script: Script, tab: str, upscalers: Sequence[str]) -> list[ScriptArgument]:
    return [
        ScriptArgument(
            label=each.label,
            value=each.default,
            minimum=each.minimum,
            maximum=each.maximum,
            step=each.step,
            choices=list(each.choices) or None,
        )
        for each in _arguments(script, tab, upscalers)
    ]


def _arguments(script: Script, tab: str, upscalers: Sequence[str]) -> list[Argument]:
    """A script's arguments; upscalers are counted as in /sdapi/v1/upscalers, the models behind those that are always there."""
    return [replace(each, choices=(*each.choices, *upscalers)) if each.others else each for each in script.arguments(tab)]
