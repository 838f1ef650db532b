"""ComfyUI's graphs: nodes by id, links followed from an input to the node that feeds it, in circles as in long chains."""

from collections.abc import Iterable, Mapping
from typing import Any

MAX_NODES = 5_000
MAX_STEPS = 1_000  # nodes that one walk may pass
MAX_DEPTH = 20  # nodes that hand one value on
MAX_JOINTS = 8  # joined texts within joined texts
MAX_TEXT = 100_000  # characters of joined texts, which may double with every joint
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
SAMPLERS_HAVE = {"latent_image", "sampler_name", "steps"}  # inputs of other authors' samplers
WRITERS = ("SaveImage", "PreviewImage", "SaveAnimatedWEBP", "SaveAnimatedPNG")
REROUTES = ("Reroute", "Reroute (rgthree)")
PICTURES = ("images", "image", "pixels", "samples", "latent_image", "latent", "upscale_image")  # inputs for pictures and latents
HANDED_ON = (  # inputs of nodes that hand a text or a number on
    *("text", "value", "string", "prompt", "String", "Text", "seed", "int", "float", "number", "Value", "Number", "Integer", "Float"),
)
JOINTS = (("string_a", "string_b"), ("string1", "string2"), ("text_a", "text_b"), ("text1", "text2"))  # inputs of nodes that join texts

Node = Mapping[str, Any]


def kind(node: Node | None) -> str:
    """The class of a node, "" for none."""
    return str(node.get("class_type", "")) if node else ""


def is_sampler(node: Node) -> bool:
    """Whether the node makes latents, be it ComfyUI's own or another author's with the same inputs."""
    return kind(node) in SAMPLERS or node["inputs"].keys() >= SAMPLERS_HAVE


class Graph:
    """The nodes of an executed graph: id -> {class_type, inputs}."""

    def __init__(self, nodes: Mapping[str, Any]) -> None:
        told = {key: node for key, node in list(nodes.items())[:MAX_NODES] if isinstance(node, dict)}
        self.nodes: dict[str, Node] = {key: node for key, node in told.items() if isinstance(node.get("inputs"), dict)}

    def sampler(self) -> tuple[Node | None, Node | None]:
        """(the sampler behind the picture that was written, the node that wrote it); of several writers the first that has one; else the
        first sampler at all."""
        seen: set[int] = set()  # by all walks: many writers at the end of one long chain cost one walk
        for node in self.nodes.values():
            if kind(node) in WRITERS:
                found = self._behind(node, PICTURES, seen)
                if found is not None:
                    return found, node
        return next((node for node in self.nodes.values() if is_sampler(node)), None), None

    def first_pass(self, sampler: Node) -> Node:
        """The sampler whose latents were not another sampler's."""
        for _ in range(20):
            before = self._behind(sampler, ("latent_image",), set())
            if before is None:
                return sampler
            sampler = before
        return sampler

    def _behind(self, node: Node, names: tuple[str, ...], seen: set[int]) -> Node | None:
        """The nearest sampler upstream of `node`, through pictures and latents alone; names: the inputs to begin with; seen: the ids of
        nodes that are passed over, to which those that this walk passes are added."""
        queue = self._inputs(node, names)
        while queue:
            node = queue.pop(0)
            if id(node) in seen:
                continue
            seen.add(id(node))
            if is_sampler(node):
                return node
            queue += self._inputs(node, PICTURES)
        return None

    def _inputs(self, node: Node, names: Iterable[str]) -> list[Node]:
        return [found for name in names if (found := self.input(node, name)) is not None]

    def after(self, sampler: Node, writer: Node | None) -> list[Node]:
        """The nodes between a sampler and the one that wrote its picture, in the order of the graph."""
        sources = {id(node): self._inputs(node, node["inputs"]) for node in self.nodes.values()}
        users: dict[int, list[Node]] = {}
        for node in self.nodes.values():
            for source in sources[id(node)]:
                users.setdefault(id(source), []).append(node)
        below = _reached(sampler, users)
        within = _reached(writer, sources) if writer else below
        return [node for node in self.nodes.values() if id(node) in below & within and id(node) in users and node is not sampler]

    def chain(self, node: Node | None, *names: str) -> list[Node]:
        """The nodes that feed one another by the first of these inputs that is linked, `node` left out."""
        found: dict[int, Node] = {}
        while node is not None and len(found) < MAX_STEPS:
            node = next(iter(self._inputs(node, names)), None)
            if node is None or id(node) in found:
                break
            found[id(node)] = node
        return list(found.values())

    def input(self, node: Node | None, name: str) -> Node | None:
        """The node that feeds input `name`, None where it is a value or absent."""
        link = node["inputs"].get(name) if node else None
        for _ in range(MAX_DEPTH):
            found = self.nodes.get(str(link[0])) if isinstance(link, list) and len(link) == 2 else None
            if found is None or kind(found) not in REROUTES:
                return found
            link = next(iter(found["inputs"].values()), None)
        return None

    def value(self, node: Node | None, name: str, depth: int = 0) -> Any:
        """The value of an input; where it is linked, that of the node that hands it on."""
        link = node["inputs"].get(name) if node else None
        if not isinstance(link, list):
            return link
        source = self.input(node, name)
        return self._handed_on(source, name, link[1], depth + 1) if source and depth < MAX_DEPTH else None

    def _handed_on(self, node: Node, name: str, slot: Any, depth: int) -> Any:
        held = node["inputs"]
        for joint in JOINTS:
            if held.keys() >= set(joint):
                texts = [self.value(node, each, depth + 1) for each in joint] if depth < MAX_JOINTS else []
                return str(held.get("delimiter", ""))[:MAX_TEXT].join(text for text in texts if isinstance(text, str))[:MAX_TEXT]
        key = next((each for each in (name, *HANDED_ON) if each in held), "")
        if key:
            return self.value(node, key, depth)
        numbers = [value for value in held.values() if isinstance(value, (int, float))]
        return numbers[slot] if len(numbers) == len(held) and isinstance(slot, int) and 0 <= slot < len(numbers) else None


def _reached(start: Node, links: Mapping[int, list[Node]]) -> set[int]:
    """The ids of all nodes that links lead to."""
    seen: set[int] = set()
    queue = [start]
    while queue:
        for node in links.get(id(queue.pop()), ()):
            if id(node) not in seen:
                seen.add(id(node))
                queue.append(node)
    return seen
