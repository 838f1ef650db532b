"""The CLIP tokenizer that ships with Easel: one vocabulary, two ways of padding."""

from functools import cache
from pathlib import Path

from tokenizers import Regex, normalizers
from transformers import CLIPTokenizer

from webui.core.chunks import FINAL_SIGMA

CLIP_FOLDER = Path(__file__).parent / "clip"
PAD_WITH_END = "<|endoftext|>"  # id 49407: SD 1.x, and the first text encoder of SDXL
PAD_WITH_ZERO = "!"  # id 0: SD 2.x, and the second text encoder of SDXL (open_clip pads with zeros)


@cache
def load_tokenizer(pad_token: str = PAD_WITH_END) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer (49,408 tokens, context 77), read from this folder alone; all models share it, so nobody adds to it."""
    tokenizer = CLIPTokenizer.from_pretrained(str(CLIP_FOLDER), local_files_only=True, pad_token=pad_token)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(FINAL_SIGMA), "ς"),
            normalizers.Lowercase(),
        ]
    )
    return tokenizer
