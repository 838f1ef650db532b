"""Row 16 of docs/reliability.md: names, prompts and notes of strangers are data in everything that the server sends, and never markup."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.live import ROOT, Live, serving
from tests.service.conftest import until, write_checkpoint

MARK = "<img src=x onerror=alert(1)>"
CLOSING = "x</script><script>alert(1)<"  # as a path: a folder "x<" and a file "script>..."
SCRIPTS = sorted((ROOT / "webui" / "ui" / "static").glob("*.js"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server whose models, sidecars and styles are called as an attacker would."""
    folder = tmp_path_factory.mktemp("hostile")
    data = folder / "data"
    for kind in ("models/Stable-diffusion", "models/VAE", "loras", "embeddings", "models/hypernetworks"):
        for name in (MARK, CLOSING):
            path = write_checkpoint(data / kind / f"{name}.safetensors")
            notes = {"description": "<script>alert(1)</script>", "activation text": MARK}
            path.with_suffix(".json").write_text(json.dumps(notes))
    (data / "styles.csv").write_text(f"name,prompt\n{MARK},</script><script>alert(1)</script>\n")
    with serving(folder) as live:
        yield live


def test_no_name_breaks_out_of_the_page(hostile: Live) -> None:
    with hostile.http() as http:
        page = http.get("/").text
    assert "onerror" in page  # the names are there
    assert MARK not in page
    assert "<script>alert" not in page
    assert "</script><script>alert" not in page


def test_all_other_answers_with_strangers_texts_are_json_that_nobody_takes_for_a_page(hostile: Live) -> None:
    paths = ["/config", "/internal/models?kind=lora", "/internal/models?kind=checkpoint", "/internal/complete?text=<lora:x"]
    paths += [f"/sdapi/v1/{name}" for name in ("loras", "sd-models", "sd-vae", "embeddings", "hypernetworks", "prompt-styles")]
    paths += [f"/internal/models/lora/{MARK}/details", f"/internal/jobs/{MARK}", "/internal/pictures/<script>", f"/{MARK}"]
    with hostile.http() as http:
        until(lambda: not http.get("/internal/models?kind=lora").json()["scanning"])
        for path in paths:
            answer = http.get(path)
            assert answer.headers["content-type"].startswith("application/json"), path
            assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_of_the_page_makes_markup_of_texts(script: Path) -> None:
    """Texts go in by textContent; markup is only ever set from the page's own constants."""
    text = script.read_text("utf-8")
    for way in ("insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert way not in text, way
    for line in text.splitlines():
        if "innerHTML" in line or "outerHTML" in line:
            assert "${" not in line, line
