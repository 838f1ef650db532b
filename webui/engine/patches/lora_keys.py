"""Names in LoRA files: which layer a tensor belongs to, what part of its change it is, and how our modules call that layer.

A key is <prefix><path of the layer><ending>. The path is diffusers' or LDM's, with dots or with underscores (kohya); the prefix names the
network. All are brought to one form, with underscores, and looked up in one table that is made from the model's own modules.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from webui.engine.ldm_keys import text_places, unet_places
from webui.engine.model import DiffusionModel

EMBEDDING = "bundle_emb."
PEFT_NAMES = ("", ".default")  # of the adapter, in the middle of PEFT's own keys
MAX_TERMS = 100  # of a series; peft's default is 5
PARTS: dict[str, str] = {  # ending of a key -> the part's name in lora_kinds
    **{f".lora_{part}.weight": part for part in ("up", "down", "mid")},
    **{f"{way}.{part}.weight": part for way in (".lora", "_lora", ".lora_linear_layer") for part in ("up", "down")},
    **{f".lora_A{name}.weight": "down" for name in PEFT_NAMES},
    **{f".lora_B{name}.weight": "up" for name in PEFT_NAMES},
    **{f".lora_magnitude_vector{name}{end}": "magnitude" for name in PEFT_NAMES for end in ("", ".weight")},
    **{f".hada_{part}": f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f".lokr_{part}": f"lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    **{f".oft_R{name}.weight": "oft_R" for name in PEFT_NAMES},
    **{f".{part}{name}": part for part in ("boft_R", "boft_s") for name in PEFT_NAMES},
    **{f".{part}.weight": part for part in ("a1", "a2", "b1", "b2")},
    **{f".{part}": part for part in ("alpha", "dora_scale", "diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "oft_diag", "rescale")},
    **{f".{part}": part for part in ("ia3_l", "on_input", "weight")},  # IA3; every longer ending comes before this ".weight"
}
UNET_PREFIXES = ("lora_unet_", "unet_", "lycoris_", "oft_unet_", "base_model_model_", "")
LDM_PREFIXES = ("lora_unet_", "oft_unet_", "lycoris_", "diffusion_model_", "model_diffusion_model_")
TEXT_PREFIXES = {
    "text_encoder": ("lora_te_", "lora_te1_", "text_encoder_", "lycoris_", "base_model_model_"),
    "text_encoder_2": ("lora_te2_", "text_encoder_2_"),
}
OLD_ATTENTION = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}  # text encoders in diffusers before 0.18

Site = tuple[str, str]  # ("unet", "text_encoder" or "text_encoder_2", path of a module in it)


def split_key(key: str) -> tuple[str, str] | None:
    """(name of the layer with underscores, part); None for keys of no known ending.

    "unet.mid_block.attentions.0.proj_in.lora_A.weight" -> ("unet_mid_block_attentions_0_proj_in", "down").
    """
    for ending, part in PARTS.items():
        if key.endswith(ending):
            return key.removesuffix(ending).replace(".processor.", ".").replace(".", "_"), part
    return None


def sites(model: DiffusionModel) -> dict[str, Site]:
    """Every name that a file may have for a layer, in the form of `split_key` -> the layer."""
    found: dict[str, Site] = {}
    for component in ("text_encoder_2", "text_encoder", "unet"):
        module = model.unet if component == "unet" else getattr(model.pipeline, component, None)
        if module is not None:
            paths = [path for path, part in module.named_modules() if getattr(part, "weight", None) is not None]
            names = _unet_names(paths, model.unet.config) if component == "unet" else _text_names(paths, component)
            found.update({name: (component, path) for name, path in names})
    return found


def layer(model: DiffusionModel, site: Site) -> nn.Module:
    """The module at a site."""
    return getattr(model.pipeline, site[0]).get_submodule(site[1])


def _unet_names(paths: list[str], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    places = unet_places([f"{path}.weight" for path in paths], config)
    for path in paths:
        ldm = places[f"{path}.weight"].key.removesuffix(".weight").replace(".", "_")
        for prefix in LDM_PREFIXES:
            yield prefix + ldm, path
        ours = path.replace(".", "_")
        for prefix in UNET_PREFIXES:
            yield prefix + ours, path
            if ours.endswith("_to_out_0"):
                yield prefix + ours.removesuffix("_0"), path


def _text_names(paths: list[str], component: str) -> Iterator[tuple[str, str]]:
    """Files keep the level "text_model", which transformers 5 has left out of some text encoders, and mostly even open_clip's of SD 2.x."""
    places = text_places([f"{path}.weight" for path in paths], "open_clip")
    for path in paths:
        bare = path.removeprefix("text_model.")
        place = places[f"{path}.weight"]
        forms = {bare, f"text_model.{bare}"}
        if place.third is None:
            forms |= {place.key.removesuffix(".weight"), f"model.{place.key.removesuffix('.weight')}"}
        leaf = bare.rpartition(".")[2]
        if leaf in OLD_ATTENTION:
            forms |= {form.removesuffix(leaf) + OLD_ATTENTION[leaf] for form in forms}
        for prefix in TEXT_PREFIXES[component]:
            for form in forms:
                yield prefix + form.replace(".", "_"), path


class AdapterSettings:
    """PEFT's settings that no tensor holds, as diffusers notes them in a file's metadata: per network, or of the only one in the file."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        try:
            noted = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except (ValueError, RecursionError):
            noted = {}
        self._noted: dict[str, Any] = noted if isinstance(noted, dict) else {}

    def alpha(self, name: str, rank: int) -> float | None:
        """Of the layer that `split_key` calls `name`; such that the scale is alpha / rank. None where nothing is noted."""
        network, path = _network(name)
        alpha = self._noted.get(f"{network}lora_alpha")
        patterns = self._noted.get(f"{network}alpha_pattern")
        for pattern, special in patterns.items() if isinstance(patterns, dict) else ():
            ending = pattern.replace(".", "_")
            if path == ending or path.endswith(f"_{ending}"):
                alpha = special
                break
        if not isinstance(alpha, int | float):
            return None
        return alpha * rank**0.5 if self._noted.get(f"{network}use_rslora") is True else float(alpha)

    def rotation(self, name: str) -> dict[str, float]:
        """Of peft's OFT in the layer `name`: "terms" and "limit" as in lora_rotations.InputRotation, each where it is noted."""
        network, _ = _network(name)
        terms, limit = (self._noted.get(f"{network}{key}") for key in ("num_cayley_neumann_terms", "eps"))
        if self._noted.get(f"{network}use_cayley_neumann") is False:
            terms = 0
        found = {"terms": terms} if isinstance(terms, int) and 0 <= terms <= MAX_TERMS else {}
        limited = self._noted.get(f"{network}coft") is True and isinstance(limit, int | float) and 0 < limit < math.inf
        return found | ({"limit": limit} if limited else {})


def _network(name: str) -> tuple[str, str]:
    """(before the settings of a layer's network, the layer's path in it)."""
    for network in ("unet", "text_encoder_2", "text_encoder"):
        if name.startswith(f"{network}_"):
            return f"{network}.", name.removeprefix(f"{network}_")
    return "", name
