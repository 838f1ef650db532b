"""LoRAs that have another name here than where a picture was made: its infotext tells their hash, by which its tags are renamed, as A1111's
reader does. A LoRA of the told name counts more than its hash, and a hash that several files share names none of them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from webui.core.errors import EaselError
from webui.core.infotext import read
from webui.core.lora_hash import DIGITS, read_lora_hashes
from webui.core.model_listing import without_ending

TAG = re.compile(r"(<(?:lora|lyco):)([^:<>]+)(?=[:>])", re.IGNORECASE)
FindLora = Callable[[str], Any]  # raises EaselError where there is none of that name
WithHash = Callable[[str, str], list[str]]  # kind, digits of the hash -> names of the files


def with_local_loras(text: str, find_lora: FindLora, with_hash: WithHash) -> tuple[str, list[str]]:
    """An infotext with its tags, and the names of its hashes, as they are here; a sentence for each LoRA that was renamed."""
    hashes = read_lora_hashes(read(text).params.get("Lora hashes", ""))
    local = local_names(text, find_lora, with_hash)
    text = renamed_tags(text, local)
    for name, new in local.items():
        digits = hashes[_as_told(name)]
        text = text.replace(f"{_as_told(name)}: {digits}", f"{_as_told(new)}: {digits}")
    return text, [f"LoRA {name[:100]} is here as {new[:100]}, the same file by its hash; that was taken" for name, new in local.items()]


def local_names(text: str, find_lora: FindLora, with_hash: WithHash) -> dict[str, str]:
    """LoRAs that an infotext's tags name -> their names here, for those that are here under another one."""
    hashes = read_lora_hashes(read(text).params.get("Lora hashes", ""))
    local: dict[str, str] = {}
    for name in dict.fromkeys(found[2] for found in TAG.finditer(text)) if hashes else ():
        digits = hashes.get(_as_told(name), "")
        same = with_hash("lora", digits[:DIGITS]) if digits else []
        speakable = len(same) == 1 and not set(same[0]) & set('":\\<>')  # a tag, maybe within quotes, cannot hold these
        if speakable and not _is_here(name, find_lora):  # last: what is not here is looked for among all that is
            local[name] = without_ending(same[0])
    return local


def renamed_tags(text: str, names: Mapping[str, str]) -> str:
    """`text` with other names in its LoRAs' tags; names: old -> new."""
    return TAG.sub(lambda found: found[1] + names.get(found[2], found[2]), text)


def _as_told(name: str) -> str:
    """As `Lora hashes` spells a name."""
    return name.replace(":", "").replace(",", "").strip()


def _is_here(name: str, find_lora: FindLora) -> bool:
    try:
        find_lora(name)
    except EaselError:
        return False
    return True
