"""Merged checkpoints hold the numbers of a hand formula, load, tell how they were made, and take no memory worth naming."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.live import LiveTensors
from tests.tiny import CPU, tiny_parts
from webui.core.catalog import ModelFile, sha256_of
from webui.core.errors import BadModelFile, BadRequest
from webui.core.event import Event, Finished, Loading, Progress
from webui.core.model_orders import MergeRecipe
from webui.engine.checkpoint import load_checkpoint, save_single_file
from webui.engine.merge import merge

FIRST = "model.diffusion_model.input_blocks.0.0.weight"
KEYS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
BIG = "model.diffusion_model.big.weight"
VAE = "first_stage_model.decoder.conv_in.weight"
TEXT = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"


class Going:
    """A Control that asks to stop after some questions."""

    previews = False

    def __init__(self, questions: int = 10**9) -> None:
        self._left = questions

    @property
    def interrupted(self) -> bool:
        self._left -= 1
        return self._left < 0

    def take_skip(self) -> bool:
        return False


def weights(seed: int, channels: int = 4, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """As much of an SD 1.x checkpoint as tells its family."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {FIRST: (32, channels, 3, 3), KEYS: (32, 768), BIG: (700, 900), VAE: (8, 4, 3, 3), TEXT: (50, 8), "model.scale": ()}
    made = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
    constants = {"betas": torch.full((5,), float(seed)), "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(7)}
    return made | constants


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a, b, c: plain ones with weights of seeds 1, 2, 3; inpainting."""
    for seed, name in enumerate("abc", 1):
        save_file(weights(seed), tmp_path / f"{name}.safetensors", metadata={"from": name, f"only_{name}": "x", "sshs_model_hash": "old"})
    save_file(weights(4, channels=9), tmp_path / "inpainting.safetensors")
    return tmp_path


def listed(folder: Path, name: str) -> ModelFile:
    path = next(path for path in folder.iterdir() if path.stem == name and path.suffix != ".yaml")
    return ModelFile(path, path.name, path.stat().st_size, 0.0)


def run(folder: Path, control: Going | None = None, **fields: Any) -> Iterator[Event]:
    recipe = MergeRecipe(**{"primary": "a", "secondary": "b", "tertiary": "c", "name": "new", **fields})

    def find(name: str) -> ModelFile:
        return listed(folder, name)

    return merge(recipe, control or Going(), find_checkpoint=find, find_vae=find, folder=folder)


def merged(folder: Path, **fields: Any) -> dict[str, Tensor]:
    assert list(run(folder, **fields))[-1] == Finished()
    return load_file(folder / f"{fields.get('name', 'new')}.safetensors")


def assert_formula(found: dict[str, Tensor], formula: Any, dtype: torch.dtype = torch.float16) -> None:
    """formula: of the three models' weights in double precision."""
    models = [weights(seed) for seed in (1, 2, 3)]
    assert found.keys() == models[0].keys()
    for name in (FIRST, KEYS, BIG, VAE, TEXT, "model.scale"):
        a, b, c = (model[name].double() for model in models)
        assert found[name].dtype == dtype
        torch.testing.assert_close(found[name].double(), formula(a, b, c), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_weighted_sum_is_a_share_of_each(folder: Path, precision: str) -> None:
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    assert_formula(merged(folder, multiplier=0.3, precision=precision), lambda a, b, c: 0.7 * a + 0.3 * b, dtype)


def test_add_difference_adds_what_b_has_learned_since_c(folder: Path) -> None:
    assert_formula(merged(folder, method="Add difference", multiplier=0.8), lambda a, b, c: a + 0.8 * (b - c))


@pytest.mark.parametrize(("share", "seed"), [(0.0, 1), (1.0, 2)])
def test_the_ends_of_the_weighted_sum_are_the_models_themselves(folder: Path, share: float, seed: int) -> None:
    found = merged(folder, multiplier=share)
    assert all(torch.equal(found[name], weights(seed)[name]) for name in (FIRST, BIG, TEXT))


def test_no_interpolation_copies_and_casts(folder: Path) -> None:
    found = merged(folder, method="No interpolation", secondary="", precision="bf16")
    expected = weights(1)
    assert all(torch.equal(found[name], expected[name].bfloat16()) for name in (FIRST, BIG, "model.scale", "betas"))
    assert found["cond_stage_model.transformer.text_model.embeddings.position_ids"].dtype == torch.int64


def test_constants_and_what_b_lacks_stay_as_in_a(folder: Path) -> None:
    b = weights(2)
    del b[BIG]
    save_file(b | {"model.extra": torch.ones(1)}, folder / "b.safetensors")
    found = merged(folder)
    assert torch.equal(found[BIG], weights(1)[BIG])
    assert torch.equal(found["betas"], weights(1)["betas"].half())
    assert "model.extra" not in found


def test_text_encoders_with_and_without_the_level_text_model_meet(folder: Path) -> None:
    bare = {name.replace("transformer.text_model.", "transformer."): tensor for name, tensor in weights(2).items()}
    save_file(bare, folder / "b.safetensors")
    assert_formula(merged(folder, multiplier=0.5), lambda a, b, c: (a + b) / 2)


def test_ckpt_files_are_merged_too(folder: Path) -> None:
    (folder / "b.safetensors").unlink()
    torch.save({"state_dict": weights(2)}, folder / "b.ckpt")
    assert_formula(merged(folder, multiplier=0.5), lambda a, b, c: (a + b) / 2)


def test_an_inpainting_model_keeps_its_further_channels(folder: Path) -> None:
    events = list(run(folder, primary="inpainting", secondary="b", tertiary="c", method="Add difference", multiplier=1.0))
    assert events[-1] == Finished()
    found = load_file(folder / "new.inpainting.safetensors")[FIRST]
    a, b, c = (weights(seed, channels)[FIRST].double() for seed, channels in ((4, 9), (2, 4), (3, 4)))
    assert torch.equal(found[:, 4:], weights(4, 9)[FIRST][:, 4:])
    torch.testing.assert_close(found[:, :4].double(), a[:, :4] + b - c, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"secondary": "inpainting"}, r"inpainting\.safetensors is an inpainting model and a\.safetensors is not; choose the inpainting"),
        (
            {"secondary": "wide"},
            r"tensor model\.diffusion_model\.big\.weight has the shape \(700, 900\) in a\.safetensors and \(7,\) in wide",
        ),
        (
            {"secondary": "sd2"},
            r"a\.safetensors is Stable Diffusion 1\.x, sd2\.safetensors is Stable Diffusion 2\.x; only checkpoints of one",
        ),
        ({"secondary": "lora"}, "it is a LoRA; put it into loras/"),
        ({"secondary": "folder"}, "folder is a diffusers folder; save it as a single file first"),
        (
            {"bake_in_vae": "sd2"},
            r"this VAE does not fit: tensor first_stage_model\.decoder\.conv_in\.weight has the shape \(9, 4, 3, 3\) in",
        ),
        ({"bake_in_vae": "lora"}, r"lora\.safetensors is not a VAE"),
        ({"discard_weights": "."}, "leaves none; make it narrower"),
        ({"name": "b"}, r"b\.safetensors exists already"),
        ({"discard_weights": "(a"}, "not a regular expression: missing"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_written(folder: Path, fields: dict[str, Any], message: str) -> None:
    save_file(weights(2) | {BIG: torch.zeros(7)}, folder / "wide.safetensors")
    save_file(weights(2) | {KEYS: torch.zeros(32, 1024), VAE: torch.zeros(9, 4, 3, 3)}, folder / "sd2.safetensors")
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, folder / "lora.safetensors")
    (folder / "folder").mkdir()
    before = sorted(folder.iterdir())
    with pytest.raises(BadRequest, match=message):
        list(run(folder, **fields))
    assert sorted(folder.iterdir()) == before


def test_weights_are_discarded_by_a_pattern_that_is_found_in_the_name(folder: Path) -> None:
    found = merged(folder, discard_weights=r"^first_stage_model\.|embedding|betas$")
    assert found.keys() == {FIRST, KEYS, BIG, "model.scale"}


def test_a_pattern_that_takes_ages_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webui.engine.merge.PATTERN_SECONDS", 0.05)
    save_file(weights(1) | {"a" * 5000 + "!": torch.ones(1)}, folder / "a.safetensors")
    with pytest.raises(BadRequest, match="takes too long; avoid repeats within repeats"):
        list(run(folder, discard_weights=r"(a|aa)+$"))


def small_file(path: Path, seed: int = 0) -> Path:
    """A complete tiny checkpoint with a small vocabulary."""
    save_single_file(path, **tiny_parts("miniature", seed=seed, vocabulary=500))
    return path


@pytest.mark.parametrize("layout", ["ldm", "prefixed", "diffusers", "old diffusers"])
def test_a_vae_of_every_layout_is_baked_in(tmp_path: Path, layout: str) -> None:
    small_file(tmp_path / "a.safetensors")
    whole = load_file(small_file(tmp_path / "other.safetensors", seed=5))
    expected = {name: tensor for name, tensor in whole.items() if name.startswith("first_stage_model.")}
    bare = {name.removeprefix("first_stage_model."): tensor for name, tensor in expected.items()}
    new = tiny_parts("miniature", seed=5)["vae"].half().state_dict()
    renamed = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, tensor in new.items():
        for ours, theirs in renamed.items():
            name = name.replace(f".attentions.0.{ours}.", f".attentions.0.{theirs}.")
        old[name] = tensor
    content = {"ldm": {**bare, "loss.logvar": torch.zeros(1)}, "prefixed": expected, "diffusers": new, "old diffusers": old}[layout]
    save_file(content, tmp_path / "vae.safetensors")
    found = merged(tmp_path, method="No interpolation", bake_in_vae="vae")
    assert found.keys() == load_file(tmp_path / "a.safetensors").keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_vae_is_baked_into_a_checkpoint_that_has_none(folder: Path) -> None:
    save_file({name: tensor for name, tensor in weights(1).items() if name != VAE}, folder / "a.safetensors")
    assert torch.equal(merged(folder, bake_in_vae="c")[VAE], weights(3)[VAE])


def test_a_merged_checkpoint_loads_and_is_the_mixture(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        small_file(tmp_path / f"{name}.safetensors", seed=seed)
    merged(tmp_path, multiplier=0.25, precision="fp32")
    a, b, new = (load_checkpoint(tmp_path / f"{name}.safetensors", torch.float32, CPU) for name in ("a", "b", "new"))
    for part in ("unet", "vae", "text_encoder"):
        states = [getattr(model, part).state_dict() for model in (a, b, new)]
        for name, tensor in states[2].items():
            torch.testing.assert_close(tensor, 0.75 * states[0][name] + 0.25 * states[1][name], rtol=1e-6, atol=1e-7)


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_recipe_is_told_under_the_fields_keys(folder: Path) -> None:
    merged(folder, name="one", multiplier=0.25)
    told = metadata_of(folder / "one.safetensors")
    recipe, models = json.loads(told["sd_merge_recipe"]), json.loads(told["sd_merge_models"])
    hashes = [sha256_of(folder / f"{name}.safetensors") for name in "ab"]
    assert (recipe["primary_model_hash"], recipe["secondary_model_hash"], recipe["tertiary_model_hash"]) == (*hashes, None)
    assert (recipe["interp_method"], recipe["multiplier"], recipe["save_as_half"]) == ("Weighted sum", 0.25, True)
    assert models == {hashes[i]: {"name": f"{name}.safetensors", "sd_merge_recipe": None} for i, name in enumerate("ab")}
    assert (told["modelspec.title"], told["modelspec.merged_from"], told["modelspec.resolution"]) == ("one", "a, b", "512x512")
    merged(folder, primary="one", secondary="c", name="two")
    again = json.loads(metadata_of(folder / "two.safetensors")["sd_merge_models"])
    assert again.keys() == {*hashes, *(sha256_of(folder / f"{name}.safetensors") for name in ("one", "c"))}
    assert again[sha256_of(folder / "one.safetensors")]["sd_merge_recipe"] == recipe


@pytest.mark.parametrize(("says", "prediction", "resolution"), [("", None, None), ("epsilon", "epsilon", "512x512")])
def test_what_nobody_knows_of_an_sd2_model_is_not_made_up(folder: Path, says: str, prediction: str | None, resolution: str | None) -> None:
    """Its weights would tell what it predicts; a merge reads no more than it writes."""
    for name in "ab":
        metadata = {"modelspec.prediction_type": says} if says else None
        save_file(weights(1) | {KEYS: torch.zeros(32, 1024)}, folder / f"{name}.safetensors", metadata=metadata)
    merged(folder)
    told = metadata_of(folder / "new.safetensors")
    assert (told.get("modelspec.prediction_type"), told.get("modelspec.resolution")) == (prediction, resolution)


def test_metadata_are_copied_a_before_b_without_sums_of_other_files_or_left_out(folder: Path) -> None:
    merged(folder, name="with")
    told = metadata_of(folder / "with.safetensors")
    assert (told["from"], told["only_a"], told["only_b"]) == ("a", "x", "x")
    assert "sshs_model_hash" not in told
    merged(folder, name="without", copy_metadata=False, add_recipe=False)
    assert metadata_of(folder / "without.safetensors") == {"format": "pt", "modelspec.prediction_type": "epsilon"}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"multiplier": 0.3}, "0.7(a) + 0.3(b)"),
        ({"method": "Add difference", "multiplier": 1.0}, "a + 1.0(b - c)"),
        ({"method": "No interpolation", "primary": "inpainting"}, None),
    ],
)
def test_without_a_name_the_file_is_called_after_its_parts(folder: Path, fields: dict[str, Any], name: str | None) -> None:
    if name is None:  # the copy would take the original's place
        with pytest.raises(BadRequest, match="exists already"):
            list(run(folder, name="", **fields))
        return
    list(run(folder, name="", **fields))
    assert (folder / f"{name}.safetensors").is_file()


@pytest.mark.parametrize(("source", "copied"), [("A, B or C", "of b"), ("B", "of b"), ("C", "of c"), ("Don't", None)])
def test_the_yaml_of_the_chosen_checkpoint_is_copied_unread(folder: Path, source: str, copied: str | None) -> None:
    for name in "bc":
        (folder / f"{name}.yaml").write_text(f"of {name}")
    merged(folder, method="Add difference", config_source=source)
    target = folder / "new.yaml"
    assert (target.read_text() if target.exists() else None) == copied


def test_progress_goes_up_to_the_end(folder: Path) -> None:
    loading, *steps, finished = run(folder)
    assert (loading, finished) == (Loading("reading a.safetensors and b.safetensors"), Finished())
    fractions = [step.fraction for step in steps if isinstance(step, Progress)]
    assert fractions == sorted(set(fractions))
    assert (len(fractions), fractions[-1]) == (len(steps), 1.0)


def test_stopping_leaves_nothing_behind(folder: Path) -> None:
    before = sorted(folder.iterdir())
    assert list(run(folder, Going(questions=3)))[-1] == Finished(interrupted=True)
    with closing(run(folder)) as events:  # type: ignore[type-var]
        assert any(isinstance(event, Progress) for event in events)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("method", ["No interpolation", "Weighted sum", "Add difference"])
def test_no_more_than_two_tensors_are_in_memory(tmp_path: Path, method: str) -> None:
    for seed, name in enumerate("abc"):
        large = {f"model.diffusion_model.{i}.weight": torch.full((2000, 1500), seed, dtype=torch.float16) for i in range(4)}
        save_file(weights(seed) | large, tmp_path / f"{name}.safetensors")
    with LiveTensors() as live:
        list(run(tmp_path, method=method))
    assert 1_000_000 < live.peak < 2 * 6_000_000


def test_damaged_files_are_refused_with_a_sentence(folder: Path) -> None:
    (folder / "b.safetensors").write_bytes((folder / "b.safetensors").read_bytes()[:-5])
    with pytest.raises(BadModelFile, match="cut short"):
        list(run(folder))
