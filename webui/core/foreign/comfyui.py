"""ComfyUI's recipes: the executed graph (text "prompt"), walked from the picture back to what its sampler was given.

A graph can hold anything, so this is a best effort: the nodes that ComfyUI brings along are known, and those of others are passed
through where they have an input of the same name as the output that is looked for.
"""

from collections.abc import Mapping
from typing import Any

from webui.core.foreign.samplers import COMFYUI_SAMPLERS, COMFYUI_SCHEDULES
from webui.core.foreign.translation import Recipe, Translation, loads, lora_tag, size, stem, written
from webui.core.foreign.weights import escaped

MAX_NODES = 5_000
MAX_STEPS = 1_000  # nodes that one walk may pass
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
WRITERS = ("SaveImage", "PreviewImage", "SaveAnimatedWEBP", "SaveAnimatedPNG")
TEXTS = ("text", "value", "string", "prompt", "String", "Text")  # inputs of nodes that hand a text on
BYPASSED = "was passed over: its effect is not known here"

Node = Mapping[str, Any]


def translate(items: Mapping[str, str]) -> Translation | None:
    """The recipe as infotext; None where no sampler can be found."""
    graph = Graph(loads(items.get("prompt", "")))
    sampler = graph.sampler()
    if sampler is None:
        return None
    recipe = Recipe()
    first = graph.first_pass(sampler)
    if first is not sampler:
        recipe.not_understood("second pass", "a second sampler worked on the picture; what is told here is the first one's")
    _Walk(graph, recipe).tell(first)
    return recipe.translation()


class Graph:
    """Nodes by id, with links followed from an input to the node that feeds it."""

    def __init__(self, nodes: Mapping[str, Any]) -> None:
        told = {key: node for key, node in list(nodes.items())[:MAX_NODES] if isinstance(node, dict)}
        self.nodes: dict[str, Node] = {key: node for key, node in told.items() if isinstance(node.get("inputs"), dict)}

    def sampler(self) -> Node | None:
        """The sampler behind the picture that was written; of several writers the first that has one; else the first sampler at all."""
        for node in self.nodes.values():
            if kind(node) in WRITERS:
                found = self._behind(node)
                if found is not None:
                    return found
        return next((node for node in self.nodes.values() if kind(node) in SAMPLERS), None)

    def first_pass(self, sampler: Node) -> Node:
        """The sampler whose latents were not another sampler's."""
        for _ in range(20):
            before = self._behind(sampler, ("latent_image",))
            if before is None:
                return sampler
            sampler = before
        return sampler

    def _behind(self, node: Node, names: tuple[str, ...] | None = None) -> Node | None:
        """The nearest sampler upstream of `node`, through pictures and latents alone; names: the inputs to begin with."""
        seen: set[int] = set()
        queue = self._inputs(node, names or ("images", "image", "pixels", "samples", "latent_image", "latent", "upscale_image"))
        while queue and len(seen) < MAX_STEPS:
            node = queue.pop(0)
            if id(node) in seen:
                continue
            seen.add(id(node))
            if kind(node) in SAMPLERS:
                return node
            queue += self._inputs(node, ("images", "image", "pixels", "samples", "latent_image", "latent", "upscale_image"))
        return None

    def _inputs(self, node: Node, names: tuple[str, ...]) -> list[Node]:
        return [found for name in names if (found := self.input(node, name)) is not None]

    def input(self, node: Node | None, name: str) -> Node | None:
        """The node that feeds input `name`, None where it is a value or absent."""
        link = node["inputs"].get(name) if node else None
        return self.nodes.get(str(link[0])) if isinstance(link, list) and len(link) == 2 else None

    def value(self, node: Node | None, name: str) -> Any:
        """The value of an input; where it is linked, that of the node that hands it on."""
        for _ in range(20):
            if node is None:
                return None
            value = node["inputs"].get(name)
            if not isinstance(value, list):
                return value
            node = self.input(node, name)
            held = node["inputs"] if node else {}
            name = next((each for each in (name, *TEXTS, "seed", "int", "float", "number") if each in held), name)
        return None


def kind(node: Node | None) -> str:
    """The class of a node, "" for none."""
    return str(node.get("class_type", "")) if node else ""


class _Walk:
    """Tells a sampler's recipe."""

    def __init__(self, graph: Graph, recipe: Recipe) -> None:
        self.graph = graph
        self.recipe = recipe
        self.tags: list[str] = []

    def tell(self, sampler: Node) -> None:
        value, recipe = self.graph.value, self.recipe
        guider = self.graph.input(sampler, "guider") or sampler
        positive = self.graph.input(guider, "positive") or self.graph.input(guider, "conditioning")
        prompt = self._prompt(positive)
        recipe.negative_prompt = self._prompt(self.graph.input(guider, "negative"))
        self._schedule(sampler)
        recipe.set("CFG scale", value(guider, "cfg"))
        noise = self.graph.input(sampler, "noise") or sampler
        seed = value(noise, "noise_seed")
        recipe.set("Seed", value(noise, "seed") if seed is None else seed)
        latents = self._latents(sampler)
        recipe.set("Size", size(value(latents, "width"), value(latents, "height")))
        self._model(self.graph.input(guider, "model") or self.graph.input(sampler, "model"))
        self._clip_skip(positive)
        self._denoising(sampler, latents)
        recipe.set("RNG", "CPU")
        recipe.prompt = " ".join(filter(None, (prompt, *reversed(self.tags))))
        recipe.approximated("prompt", "ComfyUI weighs words in another way, and draws the noise of a batch in one piece")

    def _schedule(self, sampler: Node) -> None:
        value, recipe = self.graph.value, self.recipe
        chosen = self.graph.input(sampler, "sampler")
        name = written(value(chosen or sampler, "sampler_name")) or kind(chosen)
        sigmas = self.graph.input(sampler, "sigmas") or sampler
        schedule = written(value(sigmas, "scheduler"))
        recipe.set("Steps", value(sigmas, "steps"))
        recipe.set("Sampler", COMFYUI_SAMPLERS.get(name, name))
        recipe.set("Schedule type", COMFYUI_SCHEDULES.get(schedule, schedule))
        if name and name not in COMFYUI_SAMPLERS:
            recipe.not_understood("sampler_name", f"sampler {name[:60]!r} is not known here")
        if schedule not in COMFYUI_SCHEDULES and (schedule or sigmas is not sampler):
            recipe.not_understood("scheduler", f"schedule {(schedule or kind(sigmas))[:60]!r} is not known here")

    def _latents(self, sampler: Node) -> Node | None:
        """The node at which the latents began."""
        node = self.graph.input(sampler, "latent_image") or self.graph.input(sampler, "latent")
        for _ in range(MAX_STEPS):
            before = self.graph.input(node, "samples") or self.graph.input(node, "pixels")
            if node is None or before is None or "width" in node["inputs"]:
                return node
            node = before
        return node

    def _denoising(self, sampler: Node, latents: Node | None) -> None:
        strength = self.graph.value(self.graph.input(sampler, "sigmas") or sampler, "denoise")
        if "Image" in kind(latents) and not kind(latents).startswith("Empty"):
            self.recipe.set("Denoising strength", strength)
            self.recipe.not_understood("image", "it began from a picture, which is not in the file; open that on the img2img tab")

    def _model(self, node: Node | None) -> None:
        """The checkpoint, and what lies on the way to it."""
        for _ in range(MAX_STEPS):
            inputs = node["inputs"] if node else {}
            name = inputs.get("ckpt_name") or inputs.get("unet_name")
            if node is None or isinstance(name, str):
                self.recipe.set("Model", stem(name))
                return
            self._patch(node)
            node = self.graph.input(node, "model")

    def _patch(self, node: Node) -> None:
        value = self.graph.value
        if isinstance(value(node, "lora_name"), str):
            clip = value(node, "strength_clip")
            self.tags.append(lora_tag(value(node, "lora_name"), value(node, "strength_model"), 0 if clip is None else clip))
        elif isinstance(value(node, "hypernetwork_name"), str):
            self.tags.append(f"<hypernet:{stem(value(node, 'hypernetwork_name'))}:{written(value(node, 'strength')) or '1'}>")
        elif kind(node):
            self.recipe.not_understood(kind(node), f"{kind(node)[:60]} {BYPASSED}")

    def _clip_skip(self, node: Node | None) -> None:
        """A node CLIPSetLastLayer between the prompt and its text encoder; its -2 is everybody's 2."""
        node = self.graph.input(self._encoder(node), "clip")
        for _ in range(MAX_STEPS):
            layer = self.graph.value(node, "stop_at_clip_layer")
            if node is None or isinstance(layer, int):
                self.recipe.set("Clip skip", -layer if isinstance(layer, int) and -12 <= layer < -1 else None)
                return
            node = self.graph.input(node, "clip")

    def _encoder(self, node: Node | None) -> Node | None:
        """The first node upstream that has a text encoder."""
        for _ in range(MAX_STEPS):
            if node is None or "clip" in node["inputs"]:
                return node
            node = next((found for name in self._conditionings(node) if (found := self.graph.input(node, name))), None)
        return None

    @staticmethod
    def _conditionings(node: Node) -> tuple[str, ...]:
        return tuple(name for name in ("conditioning", "conditioning_1", "conditioning_to", "positive") if name in node["inputs"])

    def _prompt(self, node: Node | None, depth: int = 0) -> str:
        """The text behind a conditioning."""
        if node is None or depth > 50:
            return ""
        name, graph = kind(node), self.graph
        texts = [graph.value(node, key) for key in ("text", "text_g", "text_l", "prompt")]
        told = list(dict.fromkeys(written(text) for text in texts if isinstance(text, str)))
        if told:
            return _as_ours(", ".join(filter(None, told)))
        if name == "ConditioningZeroOut":
            return ""
        joint = {
            "ConditioningCombine": (" AND ", "conditioning_1", "conditioning_2"),
            "ConditioningConcat": (" BREAK ", "conditioning_to", "conditioning_from"),
        }
        if name in joint:
            word, *inputs = joint[name]
            return word.join(filter(None, (self._prompt(graph.input(node, each), depth + 1) for each in inputs)))
        self.recipe.not_understood(name, f"{name[:60]} {BYPASSED}")
        for each in self._conditionings(node):
            if graph.input(node, each) is not None:
                return self._prompt(graph.input(node, each), depth + 1)
        return ""


def _as_ours(text: str) -> str:
    """ComfyUI's prompt text here: its square brackets mean nothing, and embeddings are called by `embedding:name`."""
    return escaped(text, "[]").replace("embedding:", "")
