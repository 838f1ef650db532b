"""Writes the CLIP tokenizer folder beside this script from the byte-pair list in the open_clip_torch wheel.

    python -m webui.engine.tokenizers.make_clip_tokenizer

It asks pip for the wheel (no dependencies, nothing is installed), reads one file of it, and writes
`clip/vocab.json`, `clip/merges.txt`, `clip/tokenizer_config.json`, `clip/special_tokens_map.json`.
Needed only to remake what the repository already holds.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "open_clip_torch"
MEMBER = "open_clip/bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_SIZE = 49408
MERGES = VOCABULARY_SIZE - 2 * 256 - 2  # 256 bytes, each also as the end of a word, and the two special tokens
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
CONTEXT_LENGTH = 77


def main() -> None:
    """Fetch the wheel, or take the one named with --wheel, and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help=f"a {PACKAGE} wheel that is already here")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "clip")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel or download_wheel(Path(folder))
        merges = read_merges(wheel)
    write_tokenizer(arguments.out, merges)
    print(f"{arguments.out}: {VOCABULARY_SIZE} tokens, {len(merges)} merges from {wheel.name}")


def download_wheel(folder: Path) -> Path:
    """The newest wheel of PACKAGE, in `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--dest", str(folder), PACKAGE], check=True)
    return next(folder.glob("*.whl"))


def read_merges(wheel: Path) -> list[str]:
    """The first MERGES byte-pair merges ("a b"); the file's first line is a heading, its rest goes unused."""
    with zipfile.ZipFile(wheel) as archive:
        lines = gzip.decompress(archive.read(MEMBER)).decode("utf-8").split("\n")
    merges = lines[1 : MERGES + 1]
    if any(len(line.split()) != 2 for line in merges) or len(merges) != MERGES:
        raise SystemExit(f"{wheel}: {MEMBER} is not the list of {MERGES} merges that CLIP uses")
    return merges


def byte_alphabet() -> list[str]:
    """One printable character for each byte, in the order of CLIP's vocabulary.

    Printable Latin-1 stands for itself and comes first; the other 68 bytes follow as U+0100, U+0101, ...
    (Radford et al. 2019, GPT-2's byte-level byte-pair encoding).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + i) for i in range(others)]


def vocabulary(merges: list[str]) -> dict[str, int]:
    """token -> id: the bytes, the bytes that end a word, what each merge makes, the two special tokens."""
    alphabet = byte_alphabet()
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += [BOS, EOS]
    return {token: index for index, token in enumerate(tokens)}


def write_tokenizer(folder: Path, merges: list[str]) -> None:
    """The four files that transformers' CLIPTokenizer reads; padding with EOS, as Stable Diffusion 1.x does."""
    folder.mkdir(parents=True, exist_ok=True)
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": CONTEXT_LENGTH,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        **special,
    }
    vocab = json.dumps(vocabulary(merges), ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(vocab, encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
