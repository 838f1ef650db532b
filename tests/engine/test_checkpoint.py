"""Checkpoint files become the models that diffusers makes of them, bit for bit, and come back as the same files."""

import json
import random
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.live import LiveTensors
from tests.tiny import CPU, full_size_parts, tiny_checkpoint, tiny_parts
from webui.core.errors import BadModelFile, BadRequest, MissingModel
from webui.core.family import FAMILIES
from webui.engine.checkpoint import load_checkpoint, load_vae, save_model, save_single_file
from webui.engine.diffusers_parts import (
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    UNet2DConditionModel,
)
from webui.engine.family import load_family
from webui.engine.model import DiffusionModel, alphas_cumprod, with_zero_terminal_snr
from webui.engine.model_file import open_tensors
from webui.engine.tensor_writer import PRECISIONS

MODULES = ("unet", "vae", "text_encoder", "text_encoder_2")
SMALL = 500  # tokens, where no prompt is encoded


def small_file(path: Path, family: str, dtype: torch.dtype = torch.float16, **unet_changes: Any) -> Path:
    """A tiny single file with a small vocabulary."""
    save_single_file(path, **tiny_parts(family, vocabulary=SMALL, **unet_changes), dtype=dtype)
    return path


def load(path: Path, **how: Any) -> DiffusionModel:
    return load_checkpoint(path, torch.float32, CPU, **how)


def parts_of(model: DiffusionModel) -> dict[str, nn.Module]:
    found = {name: getattr(model.pipeline, name, None) for name in MODULES}
    return {name: module for name, module in found.items() if module is not None}


def assert_same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key].to(a[key].dtype))] == []


def edited(path: Path, change: Any, target: Path) -> Path:
    """The safetensors file with other tensors, at `target`."""
    save_file(change(load_file(path)), target)
    return target


def lacking(path: Path, prefix: str, target: Path) -> Path:
    """The file without the tensors whose names begin with `prefix`."""
    return edited(path, lambda tensors: {key: tensor for key, tensor in tensors.items() if not key.startswith(prefix)}, target)


@pytest.fixture(scope="module")
def sd1_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD 1.x file that tests leave as it is."""
    return small_file(tmp_path_factory.mktemp("sd1") / "x.safetensors", "sd1")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("family", "changes"),
    [("sd1", {}), ("sd1", {"in_channels": 9}), ("sd2", {}), ("sdxl", {}), ("sdxl", {"in_channels": 9})],
)
def test_weights_are_those_of_diffusers_from_single_file(
    tmp_path: Path, no_network: None, monkeypatch: pytest.MonkeyPatch, family: str, changes: dict[str, int]
) -> None:
    parts = tiny_parts(family, vocabulary=SMALL, **changes)
    path = tmp_path / "x.safetensors"
    save_single_file(path, **parts)
    model = load(path)
    assert model.family.name == (f"{family}_inpainting" if changes else family)
    theirs = diffusers_loads(path, config_folder(tmp_path / "config", family, parts), model)
    assert parts_of(model).keys() == {name for name in MODULES if getattr(theirs, name, None) is not None}
    for name, module in parts_of(model).items():
        assert_same_weights(module, getattr(theirs, name))
    assert model.pipeline.scheduler.config.prediction_type == theirs.scheduler.config.prediction_type


def config_folder(folder: Path, family: str, parts: dict[str, Any]) -> Path:
    """The family's shipped folder, with the configurations of these very modules."""
    shutil.copytree(load_family(family).folder, folder)
    for name, module in parts.items():
        if module is not None:
            (module.config.save_pretrained if name.startswith("text") else module.save_config)(folder / name)
    return folder


def diffusers_loads(path: Path, config: Path, model: DiffusionModel, dtype: torch.dtype = torch.float32) -> Any:
    """diffusers' own loader, given only local files."""
    layouts = model.family.text_encoders
    given = {layout.tokenizer: tokenizer for layout, tokenizer in zip(layouts, model.tokenizers, strict=True)}
    kind = type(model.pipeline)
    return kind.from_single_file(str(path), config=str(config), torch_dtype=dtype, local_files_only=True, **given)


def test_a_picture_equals_that_of_diffusers_own_pipeline_object(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "x.safetensors", family="sd1")
    model = load(path)
    theirs = diffusers_loads(path, config_folder(tmp_path / "config", "sd1", tiny_parts("sd1")), model)
    pictures = []
    for pipeline in (model.pipeline, theirs):
        pipeline.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        pictures.append(pipeline("a cat", num_inference_steps=2, width=64, height=64, generator=noise, output_type="pt").images)
    assert torch.equal(*pictures)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_loading_gives_back_what_was_saved(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    parts = {name: part for name, part in tiny_parts(family, vocabulary=SMALL).items() if part is not None}
    path = small_file(tmp_path / "x.safetensors", family, dtype)
    model = load(path)
    assert model.family.name == family
    assert parts_of(model).keys() == parts.keys()
    for name, module in parts_of(model).items():
        assert module.training is False
        assert not any(parameter.requires_grad or parameter.is_meta for parameter in module.parameters())
        assert not any(buffer.is_meta for buffer in module.buffers())
        assert_same_weights(module, parts[name].to(dtype).float())


LAYOUTS = ("single file", "diffusers folder")
SAVED = [(family, {}) for family in sorted(FAMILIES)] + [("sd1", {"in_channels": 9}), ("sdxl", {"in_channels": 9})]


@pytest.fixture(scope="module", params=SAVED, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def random_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    """A model of each family, and inpainting ones, in fp32 with values that no 16-bit type holds."""
    family, changes = request.param
    return load(small_file(tmp_path_factory.mktemp("random") / "x.safetensors", family, torch.float32, **changes))


@pytest.mark.parametrize(("dtype", "layout"), [*((dtype, "single file") for dtype in PRECISIONS), ("bf16", "diffusers folder")])
def test_a_saved_model_comes_back_bit_for_bit_in_the_saved_type(
    random_model: DiffusionModel, tmp_path: Path, dtype: Any, layout: Any
) -> None:
    dtype = PRECISIONS[dtype]
    save_model(random_model, tmp_path / "saved", dtype, layout)
    again = load(tmp_path / "saved")
    assert again.family == random_model.family
    assert parts_of(again).keys() == parts_of(random_model).keys()
    for name, module in parts_of(again).items():
        saved = {key: tensor.to(dtype) for key, tensor in parts_of(random_model)[name].state_dict().items()}
        assert [key for key, tensor in module.state_dict().items() if not torch.equal(tensor, saved[key].float())] == []
    weights = [tmp_path / "saved"] if layout == "single file" else list((tmp_path / "saved").rglob("*.safetensors"))
    for path in weights:
        assert {tensor.dtype for tensor in load_file(path).values()} - {torch.int64} == {dtype}


def test_diffusers_reads_the_saved_file_and_the_saved_folder_as_the_same_model(
    random_model: DiffusionModel, tmp_path: Path, no_network: None
) -> None:
    for layout in LAYOUTS:
        save_model(random_model, tmp_path / layout, torch.float16, layout)  # type: ignore[arg-type]
    (tmp_path / "single file").rename(tmp_path / "x.safetensors")
    family = random_model.family.name.removesuffix("_inpainting")
    pipelines = [type(random_model.pipeline).from_pretrained(tmp_path / "diffusers folder", local_files_only=True)]
    if family not in ("miniature", "sdxl_refiner"):  # diffusers takes their text encoders for another kind's
        config = config_folder(tmp_path / "config", family, parts_of(random_model))
        pipelines.append(diffusers_loads(tmp_path / "x.safetensors", config, random_model))
    for theirs in pipelines:
        for name, module in parts_of(random_model).items():
            saved = {key: tensor.half().float() for key, tensor in module.state_dict().items()}
            found = getattr(theirs, name).state_dict()
            assert found.keys() == saved.keys()
            assert [key for key in saved if not torch.equal(found[key].float(), saved[key])] == []
        assert theirs.scheduler.config.prediction_type == random_model.family.prediction_type


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_what_a_model_predicts_is_saved_with_it(tmp_path: Path, family: str, layout: Any) -> None:
    """The opposite of what the family does by itself."""
    first = small_file(tmp_path / "a.safetensors", family)
    markers = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)} if family == "sdxl" else {}
    metadata = {} if markers else {"modelspec.prediction_type": "epsilon"}
    save_file(load_file(first) | markers, first, metadata=metadata)
    model = load(first)
    assert model.family.prediction_type != load_family(family).prediction_type
    save_model(model, tmp_path / "b", layout=layout)
    assert load(tmp_path / "b").family == model.family


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_saving_gives_back_the_file_that_was_loaded(tmp_path: Path, family: str) -> None:
    first = small_file(tmp_path / "a.safetensors", family)
    save_model(load(first), tmp_path / "b.safetensors")
    assert_same_tensors(load_file(first), load_file(tmp_path / "b.safetensors"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_saving_holds_no_more_than_two_tensors(tmp_path: Path, layout: Any) -> None:
    model = load(small_file(tmp_path / "x.safetensors", "sd2"))
    with LiveTensors() as live:
        save_model(model, tmp_path / "saved", torch.float16, layout)
    largest = max(tensor.nbytes for module in parts_of(model).values() for tensor in module.state_dict().values())
    assert 0 < live.peak < 2 * largest


def test_saving_takes_no_existing_name_and_says_so(sd1_file: Path, tmp_path: Path) -> None:
    model, before = load(sd1_file), sd1_file.read_bytes()
    with pytest.raises(BadRequest, match=r"x\.safetensors exists already in sd10/; choose another name"):
        save_model(model, sd1_file)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadRequest, match="folder exists already"):
        save_model(model, tmp_path / "folder", layout="diffusers folder")
    assert sd1_file.read_bytes() == before


def assert_same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_file_has_the_fields_own_names_and_shapes(sd1_file: Path) -> None:
    tensors = load_file(sd1_file)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    assert shapes["model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"] == (32, 768)
    assert shapes["model.diffusion_model.output_blocks.5.2.conv.weight"] == (64, 64, 3, 3)
    assert shapes["first_stage_model.decoder.up.0.block.2.conv1.weight"] == (32, 32, 3, 3)
    assert shapes["first_stage_model.encoder.mid.attn_1.q.weight"] == (32, 32, 1, 1)
    assert shapes["cond_stage_model.transformer.text_model.final_layer_norm.weight"] == (768,)
    assert shapes["cond_stage_model.transformer.text_model.embeddings.position_ids"] == (1, 77)
    assert {key.split(".")[0] for key in shapes} == {"model", "first_stage_model", "cond_stage_model"}
    assert all(tensor.dtype in (torch.float16, torch.int64) for tensor in tensors.values())


PARAMETERS = {  # published sizes, in single weights; sd2's text encoder without the layer that is never used
    "sd1": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
}


@pytest.mark.parametrize("family", PARAMETERS)
def test_shipped_configurations_have_the_published_sizes(family: str) -> None:
    facts = load_family(family)
    with torch.device("meta"):
        for name, count in PARAMETERS[family].items():
            config = facts.read_config(name)
            module = {
                "unet": lambda config=config: UNet2DConditionModel.from_config(config),
                "vae": lambda config=config: AutoencoderKL.from_config(config),
                "text_encoder": lambda config=config: CLIPTextModel(CLIPTextConfig.from_dict(config)),
                "text_encoder_2": lambda config=config: CLIPTextModelWithProjection(CLIPTextConfig.from_dict(config)),
            }[name]()
            assert sum(parameter.numel() for parameter in module.parameters()) == count, name


@pytest.mark.parametrize(
    ("family", "size", "predicts"),
    [
        ("miniature", 128, "epsilon"),
        ("sd1", 512, "epsilon"),
        ("sd2", 768, "v_prediction"),
        ("sdxl", 1024, "epsilon"),
        ("sdxl_refiner", 1024, "epsilon"),
    ],
)
def test_family_facts(family: str, size: int, predicts: str) -> None:
    facts = load_family(family)
    assert (facts.native_size, facts.prediction_type, facts.latent_channels) == (size, predicts, 4)
    assert [len(row) for row in facts.preview_matrix] == [3] * 4
    assert len(facts.preview_bias) == 3


def test_the_family_is_found_by_tensors_never_by_the_name(tmp_path: Path) -> None:
    path = small_file(tmp_path / "sd_xl_base_1.0_inpainting.safetensors", "sd1")
    assert load(path).family.name == "sd1"


def test_marker_tensors_and_metadata_tell_the_prediction_type(tmp_path: Path) -> None:
    path = small_file(tmp_path / "x.safetensors", "sdxl")
    markers = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    family = load(edited(path, lambda tensors: tensors | markers, tmp_path / "y.safetensors")).family
    assert (family.prediction_type, family.zero_terminal_snr) == ("v_prediction", True)
    save_single_file(path, **tiny_parts("sd2", vocabulary=SMALL), metadata={"modelspec.prediction_type": "epsilon"})
    model = load(path)
    assert (model.family.prediction_type, model.family.native_size) == ("epsilon", 512)
    assert model.pipeline.scheduler.config.prediction_type == "epsilon"


def test_constants_averages_and_strange_keys_make_no_difference(sd1_file: Path, tmp_path: Path) -> None:
    plain = load(sd1_file)

    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        del tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"]
        ema = {"model_ema.diffusion_modelinput_blocks00weight": torch.ones(3), "model_ema.decay": torch.ones(())}
        schedule = {"alphas_cumprod": torch.ones(1000), "betas": torch.ones(1000)}
        return tensors | ema | schedule | {"../<b>odd</b>": torch.ones(1)}

    strange = load(edited(sd1_file, change, tmp_path / "y.safetensors"))
    for name, module in parts_of(plain).items():
        assert_same_weights(module, parts_of(strange)[name])


def test_linear_and_convolution_shapes_are_the_same_weights(sd1_file: Path, tmp_path: Path) -> None:
    flat = {"attn_1.q.weight", "attn_1.k.weight", "attn_1.v.weight", "attn_1.proj_out.weight"}

    def flatten(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: t.flatten(1).clone() if any(k.endswith(end) for end in flat) else t for k, t in tensors.items()}

    assert_same_weights(load(edited(sd1_file, flatten, tmp_path / "y.safetensors")).vae, load(sd1_file).vae)


def test_text_encoders_without_the_level_text_model_are_found(sd1_file: Path, tmp_path: Path) -> None:
    flat = edited(
        sd1_file, lambda tensors: {k.replace("transformer.text_model.", "transformer."): t for k, t in tensors.items()}, tmp_path / "y"
    )
    assert_same_weights(load(flat).text_encoder, load(sd1_file).text_encoder)


def test_ckpt_files_load_like_safetensors(sd1_file: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": load_file(sd1_file), "global_step": 3}, tmp_path / "x.ckpt")
    for name, module in parts_of(load(tmp_path / "x.ckpt")).items():
        assert_same_weights(module, parts_of(load(sd1_file))[name])


@pytest.mark.parametrize(
    ("family", "half"), [("sd1", True), ("sd1", False), ("sd2", True), ("sdxl", True), ("sdxl", False), ("sdxl_refiner", True)]
)
def test_diffusers_folders_load_like_single_files(tmp_path: Path, no_network: None, family: str, half: bool) -> None:
    model = load(small_file(tmp_path / "x.safetensors", family))
    model.pipeline.save_pretrained(tmp_path / "folder", variant="fp16" if half else None)
    (tmp_path / "folder" / "pipeline.py").write_text("raise SystemExit('executed')")
    again = load(tmp_path / "folder")
    assert (again.family.name, again.family.native_size) == (family, model.family.native_size)
    for name, module in parts_of(again).items():
        assert_same_weights(module, parts_of(model)[name])
    assert_same_weights(load_vae(tmp_path / "folder", torch.float32, CPU), model.vae)


def test_damaged_diffusers_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="without model_index"):
        load(tmp_path)
    load(small_file(tmp_path / "x.safetensors", "sd1")).pipeline.save_pretrained(tmp_path / "folder")
    config = tmp_path / "folder" / "unet" / "config.json"
    for text, message in [("[", "not valid JSON"), ("3", "not a configuration"), (json.dumps({"in_channels": 4}), "does not know")]:
        config.write_text(text)
        with pytest.raises(BadModelFile, match=message):
            load(tmp_path / "folder")
    config.unlink()
    with pytest.raises(MissingModel):
        load(tmp_path / "folder")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_diffusers_folders_in_pieces_load_like_whole_ones(tmp_path: Path, family: str) -> None:
    """As diffusers cuts SDXL's UNet in fp32, which is larger than the 10 GB that it puts into one file."""
    model = load(small_file(tmp_path / "x.safetensors", family))
    model.pipeline.save_pretrained(tmp_path / "folder", max_shard_size="500KB")
    unet = tmp_path / "folder" / "unet"
    pieces = sorted(unet.glob("*-of-*.safetensors"))
    assert len(pieces) > 1
    for name, module in parts_of(load(tmp_path / "folder")).items():
        assert_same_weights(module, parts_of(model)[name])
    pieces[1].unlink()
    with pytest.raises(BadModelFile, match=f"holds {len(pieces) - 1} of {len(pieces)} pieces of its weights"):
        load(tmp_path / "folder")


def test_a_diffusers_folder_without_a_part_is_told_by_name_and_takes_another_vae(sd1_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    load(sd1_file).pipeline.save_pretrained(folder)
    shutil.rmtree(folder / "vae")
    for use in (lambda: load(folder), lambda: load_vae(folder, torch.float32, CPU)):
        with pytest.raises(BadModelFile, match="folder has no VAE; choose one for it"):
            use()
    assert_same_weights(load(folder, vae_path=sd1_file).vae, load(sd1_file).vae)
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(BadModelFile, match="folder has no text encoder CLIP-L; get the complete checkpoint"):
        load(folder, vae_path=sd1_file)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadModelFile, match="folder has no UNet and no text encoder"):
        load(folder, vae_path=sd1_file)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("first_stage_model.", "has no VAE; choose one"),
        (
            "cond_stage_model.",
            "has no text encoder CLIP-L; get the complete checkpoint, or put a file with CLIP-L into models/text_encoder/",
        ),
        ("model.diffusion_model.", "not a Stable Diffusion checkpoint"),
        ("model.diffusion_model.middle_block.1.", "the UNet is incomplete: 26 of 684 tensors are missing"),
        ("first_stage_model.encoder.conv_out", "the VAE is incomplete: 2 of"),
    ],
)
def test_what_is_missing_is_named(sd1_file: Path, tmp_path: Path, without: str, message: str) -> None:
    with pytest.raises(BadModelFile, match=message):
        load(lacking(sd1_file, without, tmp_path / "y.safetensors"))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lora_unet_down_blocks_0.lora_down.weight", "it is a LoRA"),
        ("double_blocks.0.img_attn.qkv.weight", "newer kind"),
        ("control_model.input_blocks.0.0.weight", "ControlNet"),
        ("decoder.conv_in.weight", "it is a VAE"),
        ("down_blocks.0.resnets.0.conv1.weight", "one part of a diffusers folder"),
        ("emb_params", "embedding"),
        ("anything", "no UNet"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, key: str, message: str) -> None:
    save_file({key: torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(BadModelFile, match=message):
        load(tmp_path / "x.safetensors")


def test_models_of_other_inputs_are_refused(sd1_file: Path, tmp_path: Path) -> None:
    first = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 5, 3, 3)}
    with pytest.raises(BadModelFile, match="depth-to-image"):
        load(edited(sd1_file, lambda tensors: tensors | first, tmp_path / "y.safetensors"))


def test_unknown_text_widths_and_wrong_shapes_are_refused(sd1_file: Path, tmp_path: Path) -> None:

    def widen(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: torch.zeros(32, 99) if "attn2.to_k" in key else tensor for key, tensor in tensors.items()}

    with pytest.raises(BadModelFile, match="text width 99"):
        load(edited(sd1_file, widen, tmp_path / "y.safetensors"))
    norm = "model.diffusion_model.out.0.weight"
    with pytest.raises(BadModelFile, match=r"out\.0\.weight has shape \(7,\); the model needs \(32,\)"):
        load(edited(sd1_file, lambda tensors: tensors | {norm: torch.zeros(7)}, tmp_path / "y.safetensors"))


def test_shapes_that_fit_nothing_are_refused_or_harmless(sd1_file: Path, tmp_path: Path) -> None:
    """20 files with one tensor of another shape, type, or none: loaded, or a sentence, never another error."""
    sound, rng, refused = load_file(sd1_file), random.Random(3), 0
    telling = (
        "token_embedding",
        "position_embedding.weight",
        "conv_in",
        "input_blocks.0.0",
        "attn2.to_k",
        "mlp.fc1",
        "post_quant",
        ".conv2.",
    )
    keys = sorted(key for key in sound if any(part in key for part in telling))
    for _ in range(20):
        key = rng.choice(keys)
        shape = list(sound[key].shape)
        other = rng.choice([[], [0] * len(shape), shape[:-1], [*shape, 1], [rng.choice([0, 1, 3, 7, 64, 96]), *shape[1:]], [5]])
        damaged = {key: torch.zeros(other, dtype=rng.choice([torch.float16, torch.float16, torch.int32]))}
        save_file(sound | damaged, tmp_path / "y.safetensors")
        try:
            load(tmp_path / "y.safetensors")
        except BadModelFile:
            refused += 1
    assert refused > 10


def test_vae_files_of_every_layout_are_the_same_vae(sd1_file: Path, tmp_path: Path) -> None:
    model = load(sd1_file)
    ldm = {k.removeprefix("first_stage_model."): t for k, t in load_file(sd1_file).items() if k.startswith("first_stage_model.")}
    new = model.vae.state_dict()
    renamed = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key, tensor in new.items():
        for ours, theirs in renamed.items():
            key = key.replace(f".attentions.0.{ours}.", f".attentions.0.{theirs}.")
        old[key] = tensor
    save_file(ldm, tmp_path / "ldm.safetensors")
    save_file({f"first_stage_model.{key}": tensor for key, tensor in ldm.items()}, tmp_path / "prefixed.safetensors")
    save_file(new, tmp_path / "new.safetensors")
    save_file(old, tmp_path / "old.safetensors")
    torch.save({"state_dict": ldm | {"loss.logvar": torch.zeros(())}}, tmp_path / "ldm.pt")
    names = ("ldm.safetensors", "prefixed.safetensors", "new.safetensors", "old.safetensors", "ldm.pt")
    for path in (sd1_file, *(tmp_path / name for name in names)):
        vae = load_vae(path, torch.float32, CPU)
        assert_same_weights(vae, model.vae)
        assert vae.config.scaling_factor == 0.18215


def test_a_vae_gets_the_scaling_factor_of_the_model_it_is_for(sd1_file: Path, tmp_path: Path) -> None:
    assert load_vae(sd1_file, torch.float32, CPU, load_family("sdxl")).config.scaling_factor == 0.13025


def test_files_that_are_no_vae_are_refused(sd1_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="has no VAE"):
        load_vae(lacking(sd1_file, "first_stage_model.", tmp_path / "y.safetensors"), torch.float32, CPU)
    save_file({"lora": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(BadModelFile, match="is not a VAE"):
        load_vae(tmp_path / "lora.safetensors", torch.float32, CPU)
    wide = tiny_parts("sd1", vocabulary=SMALL)["vae"].config
    save_file(AutoencoderKL.from_config({**wide, "latent_channels": 16}).state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(BadModelFile, match="16 latent channels"):
        load_vae(tmp_path / "wide.safetensors", torch.float32, CPU)


def test_another_vae_takes_the_place_of_the_checkpoints_own_and_of_a_missing_one(sd1_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "vae.safetensors"
    save_file(tiny_parts("sd1", seed=1, vocabulary=SMALL)["vae"].state_dict(), other)
    bare = lacking(sd1_file, "first_stage_model.", tmp_path / "y.safetensors")
    for checkpoint in (sd1_file, bare):
        model = load(checkpoint, vae_path=other)
        assert_same_weights(model.vae, load_vae(other, torch.float32, CPU))
        assert model.vae_path == other


def test_with_vae_makes_a_new_model_around_the_same_unet(sd1_file: Path) -> None:
    model = load(sd1_file)
    own = model.vae
    vae = load_vae(model.path, torch.float32, CPU)
    changed = model.with_vae(vae)
    assert changed.vae is vae
    assert model.vae is own
    assert changed.unet is model.unet
    assert changed.text_encoder is model.text_encoder
    assert changed.tokenizer is model.tokenizer
    assert type(changed.pipeline) is type(model.pipeline)


def test_number_types_are_as_asked_and_sdxls_vae_is_never_fp16(tmp_path: Path) -> None:
    path = small_file(tmp_path / "x.safetensors", "sd1")
    model = load_checkpoint(path, torch.float16, CPU, vae_dtype=torch.float32)
    assert (model.dtype, model.text_encoder.dtype, model.vae.dtype) == (torch.float16, torch.float16, torch.float32)
    assert load_checkpoint(path, torch.float16, CPU).vae.dtype == torch.float16
    assert load_checkpoint(small_file(path, "sdxl"), torch.float16, CPU).vae.dtype == torch.float32


def test_sdxls_vae_is_bf16_on_cards_that_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webui.engine.checkpoint.safe_half", lambda: torch.bfloat16)
    path = small_file(tmp_path / "x.safetensors", "sdxl")
    assert load_checkpoint(path, torch.float16, CPU).vae.dtype == torch.bfloat16
    assert load_checkpoint(path, torch.float16, CPU, vae_dtype=torch.float32).vae.dtype == torch.float32
    assert load_checkpoint(path, torch.float32, CPU).vae.dtype == torch.float32


def test_sdxl_has_two_text_encoders_in_order(tmp_path: Path) -> None:
    model = load(small_file(tmp_path / "x.safetensors", "sdxl"))
    assert [encoder.config.hidden_size for encoder in model.text_encoders] == [768, 1280]
    assert [tokenizer.pad_token_id for tokenizer in model.tokenizers] == [49407, 0]
    assert model.family.is_sdxl


def test_the_noise_schedule_is_diffusers_own_in_double_precision(sd1_file: Path) -> None:
    model = load(sd1_file)
    assert model.alphas_cumprod.dtype == torch.float64
    assert model.alphas_cumprod.shape == (1000,)
    torch.testing.assert_close(model.alphas_cumprod.float(), model.pipeline.scheduler.alphas_cumprod, rtol=1e-5, atol=0)
    assert ((1 - alphas_cumprod()[-1]) / alphas_cumprod()[-1]) ** 0.5 == pytest.approx(14.6146, abs=1e-4)


def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_the_start() -> None:
    stretched = with_zero_terminal_snr(alphas_cumprod())
    assert stretched[-1] == 0
    assert stretched[0] == pytest.approx(float(alphas_cumprod()[0]))
    assert bool((stretched.diff() < 0).all())


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_file(tmp_path / "x.safetensors", "sd1")
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(Exception, match="No space left"):
        small_file(path, "sd1")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_metadata_are_written(tmp_path: Path) -> None:
    with open_tensors(tiny_checkpoint(tmp_path / "x.safetensors")) as file:
        assert file.metadata["modelspec.title"] == "tiny miniature"


@pytest.mark.slow
def test_a_full_size_sd15_file_loads_as_diffusers_loads_it(tmp_path: Path, no_network: None) -> None:
    """860 M + 84 M + 123 M random weights in fp16 (2.1 GB), against the shipped configurations themselves."""
    parts = full_size_parts("sd1")
    path = tmp_path / "x.safetensors"
    save_single_file(path, **parts)
    model = load_checkpoint(path, torch.float16, CPU)
    assert model.family.name == "sd1"
    theirs = diffusers_loads(path, model.family.folder, model, torch.float16)
    for name, module in parts_of(model).items():
        assert_same_weights(module, parts[name])
        assert_same_weights(module, getattr(theirs, name))
