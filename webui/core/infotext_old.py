"""What infotexts of A1111's first year say in other words, said as later ones do: `renewed`, as A1111's own reader has it."""

import math
import re

from webui.core.key_values import is_digits

HYPERNET = re.compile(r"(.+?)(?:\([0-9a-f]{8,10}\))?")  # "anime(c0ffee00)": name and hash
FIRST = "First pass size"
HIRES = ("Hires upscale", "Hires resize-1", "Hires upscaler")  # one of them stands in every text of hires fix since 1.0
FIRST_PIXELS = 512 * 512  # of a first pass whose size the program chose
FIRST_STEP = 64  # its sides are multiples of this

# Keys that `renewed` has said again under other names.
RENEWED = ("Hypernet", "Hypernet strength", f"{FIRST}-1", f"{FIRST}-2")


def renewed(prompt: str, params: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Prompt and settings with what the old keys mean; these stay, for whoever shows them. Never raises."""
    return prompt + _hypernet_tag(params), _with_first_pass(params)


def _hypernet_tag(params: dict[str, str]) -> str:
    """`Hypernet` as the tag that took its place."""
    found = HYPERNET.fullmatch(params.get("Hypernet", "").strip())
    if found is None or found[1] == "None":
        return ""
    return f"<hypernet:{found[1]}:{params.get('Hypernet strength') or '1.0'}>"


def _with_first_pass(params: dict[str, str]) -> dict[str, str]:
    """`First pass size` as the size, and the size, which was the finished picture's, as what hires fix makes of it."""
    first, whole = ((_side(params, f"{key}-1"), _side(params, f"{key}-2")) for key in (FIRST, "Size"))
    if min(first) < 0 or min(whole) < 1 or any(key in params for key in HIRES):
        return params
    if 0 in first:  # the program chose
        first = _chosen(*whole)
    sizes = {"Size": first, "Hires resize": whole}
    return params | {f"{key}-{place}": str(side) for key, size in sizes.items() for place, side in enumerate(size, 1)}


def _side(params: dict[str, str], key: str) -> int:
    """The pixels that the key names, -1 where it names none."""
    text = params.get(key, "")
    return int(text) if is_digits(text) and len(text) < 6 else -1


def _chosen(width: int, height: int) -> tuple[int, int]:
    """The first pass of "0x0": the picture's shape with about 512 x 512 pixels, sides rounded up."""
    scale = math.sqrt(FIRST_PIXELS / (width * height))
    return math.ceil(width * scale / FIRST_STEP) * FIRST_STEP, math.ceil(height * scale / FIRST_STEP) * FIRST_STEP
