"""ComfyUI's workflow, as its editor saves it, made a graph like the executed one: widgets get the names of their inputs."""

from collections.abc import Mapping
from typing import Any

from webui.core.foreign.translation import entries

NEVER, BYPASSED = 2, 4  # modes of a node that was not executed
SEED = "control_after_generate"  # the widget that the editor puts behind each seed
WIDGETS = {  # the widgets of ComfyUI's own nodes, in the order in which their values are saved
    "KSampler": ("seed", SEED, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSampler (Efficient)": ("seed", SEED, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", SEED, "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ),
    "SamplerCustom": ("add_noise", "noise_seed", SEED, "cfg"),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "KarrasScheduler": ("steps", "sigma_max", "sigma_min", "rho"),
    "RandomNoise": ("noise_seed", SEED),
    "CFGGuider": ("cfg",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "VAELoader": ("vae_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "StringConcatenate": ("string_a", "string_b", "delimiter"),
    **dict.fromkeys(("PrimitiveNode", "PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "PrimitiveStringMultiline"), ("value",)),
}


def executed(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """id -> {class_type, inputs} of all nodes that were not switched off; widgets of nodes that are not known here are left out."""
    nodes = {str(each.get("id")): each for each in entries(workflow.get("nodes")) if isinstance(each, dict)}
    links = {each[0]: (str(each[1]), each[2]) for each in entries(workflow.get("links")) if _is_link(each)}
    kept = {key: node for key, node in nodes.items() if node.get("mode") not in (NEVER, BYPASSED)}
    return {key: {"class_type": str(node.get("type", "")), "inputs": _inputs(node, nodes, links)} for key, node in kept.items()}


def _is_link(value: Any) -> bool:
    """A link is [its number, from node, from output, to node, to input, type]."""
    return isinstance(value, list) and len(value) > 4 and isinstance(value[0], int)


def _inputs(node: Mapping[str, Any], nodes: Mapping[str, Any], links: Mapping[int, tuple[str, Any]]) -> dict[str, Any]:
    told = node.get("widgets_values")
    names = WIDGETS.get(str(node.get("type", "")), ())
    found = dict(told) if isinstance(told, dict) else dict(zip(names, entries(told), strict=False))
    for each in entries(node.get("inputs")):
        source = _source(each, nodes, links) if isinstance(each, dict) else None
        if source is not None:
            found[str(each.get("name", ""))] = list(source)
    return found


def _source(taken: Mapping[str, Any], nodes: Mapping[str, Any], links: Mapping[int, tuple[str, Any]]) -> tuple[str, Any] | None:
    """(node, output) that feeds an input; a node that was bypassed hands on what it is fed of the same type."""
    kind = taken.get("type")
    for _ in range(20):
        number = taken.get("link")
        source = links.get(number) if isinstance(number, int) else None
        node = nodes.get(source[0]) if source else None
        if node is None or node.get("mode") != BYPASSED:
            return source
        alike = (each for each in entries(node.get("inputs")) if isinstance(each, dict) and each.get("type") == kind)
        taken = next(alike, {})
    return None
