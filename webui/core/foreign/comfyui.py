"""ComfyUI's recipes: the executed graph (text "prompt"), walked from the picture back to what its sampler was given.

A graph can hold anything, so this is a best effort: the nodes that ComfyUI brings along are known, and those of others are passed
through where they have an input of the same name as the output that is looked for.
"""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from webui.core.foreign.comfyui_graph import MAX_STEPS, MAX_TEXT, Graph, Node, is_sampler, kind
from webui.core.foreign.comfyui_workflow import executed
from webui.core.foreign.samplers import (
    COMFYUI_OPTIONS,
    COMFYUI_SAMPLER_NODES,
    COMFYUI_SAMPLERS,
    COMFYUI_SCHEDULE_NODES,
    COMFYUI_SCHEDULES,
)
from webui.core.foreign.translation import Recipe, Translation, loads, lora_tag, size, stem, written
from webui.core.foreign.weights import escaped
from webui.core.named_models import MOST_NAMED, NamedModel

MAX_CONDITIONINGS = 100  # of both prompts together
PROMPTS = ("text", "text_g", "text_l", "clip_l", "clip_g", "t5xxl", "populated_text", "prompt")  # inputs of text encoders
JOINT = {  # class -> (word between, inputs)
    "ConditioningCombine": (" AND ", "conditioning_1", "conditioning_2"),
    "ConditioningConcat": (" BREAK ", "conditioning_to", "conditioning_from"),
}
CODECS = ("VAEDecode", "VAEDecodeTiled", "VAEEncode", "VAEEncodeTiled")
EMBEDDING = re.compile(r"embedding:([^\s,():<>\[\]]+)")


def translate(items: Mapping[str, str]) -> Translation:
    """The recipe as infotext; no text, and a note, where no sampler can be found."""
    recipe = Recipe()
    graph = Graph(loads(items.get("prompt", "")))
    if not graph.nodes:
        graph = Graph(executed(loads(items.get("workflow", ""))))
        recipe.approximated("workflow", "this is only ComfyUI's workflow: it tells what the editor showed, not what was executed")
    sampler, writer = graph.sampler()
    if sampler is None:
        recipe = Recipe()
        recipe.not_understood("ComfyUI", "this is ComfyUI's graph, and no sampler that is known here was found in it: it cannot be read")
        return recipe.translation()
    first = graph.first_pass(sampler)
    if first is not sampler:
        recipe.not_understood("second pass", "a second sampler worked on the picture; what is told here is the first one's")
    _Walk(graph, recipe).tell(first, graph.after(first, writer))
    return recipe.translation()


class _Walk:
    """Tells a sampler's recipe."""

    def __init__(self, graph: Graph, recipe: Recipe) -> None:
        self.graph = graph
        self.recipe = recipe
        self.tags: list[str] = []
        self.asked = 0  # conditionings whose texts were asked for

    def tell(self, sampler: Node, after: list[Node]) -> None:
        """after: the nodes that worked on what the sampler made."""
        value, recipe = self.graph.value, self.recipe
        guider = self.graph.input(sampler, "guider") or sampler
        positive = self.graph.input(guider, "positive") or self.graph.input(guider, "conditioning")
        prompt = self._prompt(positive, "positive")
        recipe.negative_prompt = self._prompt(self.graph.input(guider, "negative"), "negative")
        self._schedule(sampler)
        recipe.set("CFG scale", value(guider, "cfg"))
        noise = self.graph.input(sampler, "noise") or sampler
        seed = value(noise, "noise_seed")
        recipe.set("Seed", value(noise, "seed") if seed is None else seed)
        latents = self._latents(sampler)
        self._size(latents)
        encoder = self._encoder(positive)
        self._models(guider if self.graph.input(guider, "model") else sampler, encoder)
        self._vae([*after, sampler])
        self._clip_skip(encoder)
        self._denoising(sampler, latents)
        self._part_of_the_way(sampler, noise)
        recipe.set("RNG", "CPU")
        recipe.prompt = " ".join(filter(None, (prompt, *self.tags)))
        recipe.approximated("prompt", "ComfyUI weighs words in another way, and draws the noise of a batch in one piece")
        self._unused(after)

    def _schedule(self, sampler: Node) -> None:
        value, recipe = self.graph.value, self.recipe
        chosen = self.graph.input(sampler, "sampler")
        name = written(value(chosen or sampler, "sampler_name")) or kind(chosen)
        names = COMFYUI_SAMPLERS | COMFYUI_SAMPLER_NODES
        sigmas = self.graph.input(sampler, "sigmas") or sampler
        schedule = written(value(sigmas, "scheduler")) or (kind(sigmas) if sigmas is not sampler else "")
        schedules = COMFYUI_SCHEDULES | COMFYUI_SCHEDULE_NODES
        recipe.set("Steps", value(sigmas, "steps"))
        recipe.set("Sampler", names.get(name, name))
        recipe.set("Schedule type", schedules.get(schedule, schedule))
        if name and name not in names:
            recipe.not_understood("sampler_name", f"sampler {name[:60]!r} is not known here")
        if schedule and schedule not in schedules:
            recipe.not_understood("scheduler", f"schedule {schedule[:60]!r} is not known here")
        if name == "uni_pc_bh2":
            recipe.set("UniPC variant", "bh2")
        for node in (chosen if name in COMFYUI_SAMPLER_NODES else None, sigmas if schedule in COMFYUI_SCHEDULE_NODES else None):
            for key, setting in COMFYUI_OPTIONS.items():
                recipe.set(setting, value(node, key))
        if name == "SamplerDPMPP_2M_SDE" and value(chosen, "solver_type") == "heun":
            recipe.set("Sampler", "DPM++ 2M SDE Heun")

    def _latents(self, sampler: Node) -> Node | None:
        """The node at which the latents began."""
        node = self.graph.input(sampler, "latent_image") or self.graph.input(sampler, "latent")
        for _ in range(MAX_STEPS):
            before = self.graph.input(node, "samples") or self.graph.input(node, "pixels")
            if node is None or before is None or "width" in node["inputs"]:
                return node
            if kind(node) not in CODECS:
                self._passed_over(kind(node))
            node = before
        return node

    def _size(self, latents: Node | None) -> None:
        told = [self.graph.value(latents, side) for side in ("width", "height")]
        if not size(*told):
            told = [self.graph.value(latents, f"empty_latent_{side}") for side in ("width", "height")]
        self.recipe.set("Size", size(*told))
        if latents is not None and "width" in latents["inputs"] and not size(*told):
            self.recipe.not_understood("Size", "width and height come from a node that is not known here; set them by hand")

    def _denoising(self, sampler: Node, latents: Node | None) -> None:
        strength = self.graph.value(self.graph.input(sampler, "sigmas") or sampler, "denoise")
        if "Image" in kind(latents) and not kind(latents).startswith("Empty"):
            self.recipe.set("Denoising strength", strength)
            self.recipe.not_understood("image", "it began from a picture, which is not in the file; open that on the img2img tab")
        elif written(strength) and strength != 1:
            self.recipe.not_understood(
                "denoise", f"denoise {written(strength)[:20]} of empty latents was left out: here they begin as nothing but noise"
            )

    def _part_of_the_way(self, sampler: Node, noise: Node) -> None:
        """What a sampler does that takes only some steps of a schedule, or adds no noise."""
        value = self.graph.value
        if value(sampler, "add_noise") in ("disable", False) or kind(noise) == "DisableNoise":
            self.recipe.not_understood("add_noise", "the sampler added no noise of its own; here it always does")
        begin, end, steps = (value(sampler, key) for key in ("start_at_step", "end_at_step", "steps"))
        if all(isinstance(each, int) for each in (begin, end, steps)) and (begin > 0 or end < steps):
            sentence = f"the sampler did steps {begin} to {min(end, steps)} of {steps}; here it does all of them"
            self.recipe.not_understood("start_at_step", sentence)

    def _models(self, node: Node, encoder: Node | None) -> None:
        """The checkpoint, and what lies on the way to it and to its text encoder."""
        clips = self.graph.chain(encoder, "clip")
        models = self.graph.chain(node, "model", "model1")
        for each in models:
            name = self.graph.value(each, "ckpt_name") or self.graph.value(each, "unet_name")
            self.recipe.set("Model", stem(name))
            self._patch(each, encoder is None or each in clips, isinstance(name, str))
            if isinstance(name, str):
                break
        for each in clips:
            if each not in models and isinstance(self.graph.value(each, "lora_name"), str):
                self._lora(self.graph.value(each, "lora_name"), 0, self.graph.value(each, "strength_clip"))

    def _patch(self, node: Node, on_clip: bool, loads_model: bool) -> None:
        """What a node does to the model; on_clip: whether the text encoder passes through it, too."""
        value = self.graph.value
        rows = [each for each in node["inputs"].values() if isinstance(each, dict) and "lora" in each]  # of rgthree's loader
        if isinstance(value(node, "lora_name"), str):
            unet, clip = (("strength_model", "strength_clip"), ("lora_model_strength", "lora_clip_strength"))[loads_model]
            told = value(node, clip)
            self._lora(value(node, "lora_name"), value(node, unet), told if told is not None and (on_clip or loads_model) else 0)
        elif rows:
            for row in (row for row in reversed(rows) if row.get("on", True)):
                both = row.get("strengthTwo")
                self._lora(row["lora"], row.get("strength"), (row.get("strength") if both is None else both) if on_clip else 0)
        elif isinstance(value(node, "hypernetwork_name"), str):
            self.tags.insert(0, f"<hypernet:{stem(value(node, 'hypernetwork_name'))}:{written(value(node, 'strength')) or '1'}>")
        elif kind(node) == "RescaleCFG":
            self.recipe.set("CFG Rescale phi", value(node, "multiplier"))
        elif not loads_model and "populated_text" not in node["inputs"]:
            self._passed_over(kind(node))

    def _lora(self, name: Any, unet: Any, clip: Any) -> None:
        if stem(name) != "None":
            self.tags.insert(0, lora_tag(name, unet, clip))

    def _vae(self, nodes: list[Node]) -> None:
        """A VAE from a file of its own, by the node that made a picture of the latents."""
        for node in nodes:
            for name in ("vae", "optional_vae"):
                told = stem(self.graph.value(self.graph.input(node, name), "vae_name"))
                if told and told != "Baked VAE":
                    self.recipe.set("VAE", told)
                    return

    def _unused(self, after: list[Node]) -> None:
        for node in after:
            if not is_sampler(node) and kind(node) not in CODECS:
                sentence = f"{kind(node)[:60]} worked on the picture after the sampler; what it did was left out"
                self.recipe.not_understood(kind(node), sentence)

    def _clip_skip(self, encoder: Node | None) -> None:
        """A node CLIPSetLastLayer between the prompt and its text encoder; its -2 is everybody's 2."""
        for node in (encoder, *self.graph.chain(encoder, "clip")):
            for key in ("stop_at_clip_layer", "clip_skip"):
                layer = self.graph.value(node, key)
                if isinstance(layer, int):
                    self.recipe.set("Clip skip", -layer if -12 <= layer < -1 else None)
                    return

    def _encoder(self, node: Node | None) -> Node | None:
        """The first node upstream that has a text encoder."""
        for _ in range(MAX_STEPS):
            if node is None or "clip" in node["inputs"] or "clip_skip" in node["inputs"]:
                return node
            node = next((found for name in self._conditionings(node, "positive") if (found := self.graph.input(node, name))), None)
        return None

    @staticmethod
    def _conditionings(node: Node, role: str) -> tuple[str, ...]:
        return tuple(name for name in ("conditioning", "conditioning_1", "conditioning_to", role) if name in node["inputs"])

    def _prompt(self, node: Node | None, role: str) -> str:
        """The text behind a conditioning; role: "positive" or "negative", by which nodes that have both are asked."""
        self.asked += 1  # not the depth: of nodes that combine one conditioning with itself, fifty lead to 2 ** 50 texts
        if node is None or self.asked > MAX_CONDITIONINGS:
            return ""
        name, graph = kind(node), self.graph
        told = self._texts(node, role)
        if told is not None:
            return told
        if name == "ConditioningZeroOut":
            return ""
        if name in JOINT:
            word, *inputs = JOINT[name]
            return word.join(filter(None, (self._prompt(graph.input(node, each), role) for each in inputs)))
        self._passed_over(name)
        for each in self._conditionings(node, role):
            if graph.input(node, each) is not None:
                return self._prompt(graph.input(node, each), role)
        return ""

    def _texts(self, node: Node, role: str) -> str | None:
        """The text of a node that encodes one, None of others. Loaders of other authors have one for each role."""
        keys = (role,) if "ckpt_name" in node["inputs"] else PROMPTS
        texts = [text for key in keys if isinstance(text := self.graph.value(node, key), str)]
        if not texts:
            return None
        told = list(dict.fromkeys(text[:MAX_TEXT] for text in map(written, texts) if text))
        if len(told) > 1:
            self.recipe.approximated("text", "the texts for its text encoders differ and were joined: here each reads all of them")
        return self._as_ours(", ".join(told))

    def _as_ours(self, text: str) -> str:
        """ComfyUI's prompt text here: its square brackets mean nothing, and embeddings are called by `embedding:name`."""
        self.recipe.models += [NamedModel("embedding", stem(found[1])) for found in islice(EMBEDDING.finditer(text), MOST_NAMED)]
        return escaped(EMBEDDING.sub(lambda found: stem(found[1]), text), "[]")

    def _passed_over(self, name: str) -> None:
        if name:
            self.recipe.not_understood(name, f"{name[:60]} was passed over: its effect is not known here")
