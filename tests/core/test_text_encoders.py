"""Text encoders in models/text_encoder/: found by name, told by their tensors, and chosen for checkpoints that lack theirs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from webui.core.catalog import Catalog
from webui.core.errors import BadModelFile, MissingModel
from webui.core.model_listing import ModelFile
from webui.core.preferences import PREFERENCES
from webui.core.settings import parse_flags
from webui.core.text_encoders import CLIP_G, CLIP_H, CLIP_L

UNET = {"model.diffusion_model.input_blocks.0.0.weight": (32, 4, 3, 3)}
TEXTS = {  # width -> the name of its token embedding in a checkpoint
    768: "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    1024: "cond_stage_model.model.token_embedding.weight",
}
XL_TEXTS = {
    768: "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
    1280: "conditioner.embedders.1.model.token_embedding.weight",
}
DEFAULTS = {preference.name: preference.default for preference in PREFERENCES}


def write(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)


def write_checkpoint(path: Path, text_width: int, *texts: str) -> None:
    cross = {"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (32, text_width)}
    widths = {name: width for names in (TEXTS, XL_TEXTS) for width, name in names.items()}
    write(path, UNET | cross | {name: (9, widths[name]) for name in texts})


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    folder = tmp_path / "models" / "text_encoder"
    write(folder / "clip_l.safetensors", {"text_model.embeddings.token_embedding.weight": (9, 768)})
    write(folder / "XL" / "Clip G ö.safetensors", {"token_embedding.weight": (9, 1280)})
    write(folder / "my CLIP-L" / "pytorch_model.bin", {"embeddings.token_embedding.weight": (9, 768)})
    write(folder / "vit-h.pt", {"token_embedding.weight": (9, 1024)})
    (folder / "half.safetensors").write_bytes(b"\x00\x10")
    checkpoints = tmp_path / "models" / "Stable-diffusion"
    write_checkpoint(checkpoints / "whole.safetensors", 768, TEXTS[768])
    write_checkpoint(checkpoints / "bare.safetensors", 768)
    write_checkpoint(checkpoints / "bare2.ckpt", 1024)
    write_checkpoint(checkpoints / "xl.safetensors", 2048)
    write_checkpoint(checkpoints / "xl-half.safetensors", 2048, XL_TEXTS[768])
    write_checkpoint(checkpoints / "refiner.safetensors", 1280)
    return Catalog(parse_flags(["--data-dir", str(tmp_path)], {}))


def chosen(catalog: Catalog, checkpoint: str, asked: str = "", noted: str = "", **preferred: str) -> str:
    return catalog.text_encoders.stand_ins(catalog.find_checkpoint(checkpoint), asked, noted, DEFAULTS | preferred)


def test_files_are_listed_by_the_kind_that_their_tensors_show(catalog: Catalog) -> None:
    names = [[file.name for file in catalog.text_encoders.listed(kind)] for kind in (CLIP_L, CLIP_H, CLIP_G)]
    assert names == [["clip_l.safetensors", "my CLIP-L/pytorch_model.bin"], ["vit-h.pt"], ["XL/Clip G ö.safetensors"]]
    assert len(catalog.text_encoders.listed()) == 5


@pytest.mark.parametrize("text", ["XL/Clip G ö.safetensors", "XL/Clip G ö", "clip g ö", "Clip G ö.safetensors", "XL", "XL/"])
def test_a_file_is_found_by_name_and_by_its_folder(catalog: Catalog, text: str) -> None:
    assert catalog.text_encoders.find(text).name == "XL/Clip G ö.safetensors"


@pytest.mark.parametrize("text", ["nothing", "../text_encoder/clip_l.safetensors", "/etc/passwd", "", "clip_l.safetensors/x"])
def test_what_is_not_in_the_folder_is_named_with_what_is(catalog: Catalog, text: str) -> None:
    with pytest.raises(MissingModel, match=r"is not in .*text_encoder; put its file there, or choose another \(clip_l.safetensors, "):
        catalog.text_encoders.find(text)


def test_what_a_checkpoint_lacks_is_told_from_its_tensors(catalog: Catalog) -> None:
    lacking = {model.stem: catalog.text_encoders.lacking(model) for model in catalog.checkpoints()}
    assert lacking == {
        "easel-miniature": (),
        "whole": (),
        "bare": (CLIP_L,),
        "bare2": (CLIP_H,),
        "xl": (CLIP_L, CLIP_G),
        "xl-half": (CLIP_G,),
        "refiner": (CLIP_G,),
    }


def test_a_diffusers_folder_lacks_the_text_encoders_that_have_no_folder_in_it(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder / "text_encoder" / "model.safetensors", {"x": (1,)})
    family = catalog.find_checkpoint("xl").family
    model = replace(ModelFile(folder, "folder", 0, 0.0), family=family)
    assert catalog.text_encoders.lacking(model) == (CLIP_G,)


def test_the_request_counts_more_than_the_card_and_that_more_than_the_preference(catalog: Catalog) -> None:
    preferred = {"text_encoder_clip_l": "clip_l.safetensors"}
    assert chosen(catalog, "bare", **preferred) == "clip_l.safetensors"
    assert chosen(catalog, "bare", noted="my CLIP-L", **preferred) == "my CLIP-L/pytorch_model.bin"
    assert chosen(catalog, "bare", asked="clip_l", noted="my CLIP-L") == "clip_l.safetensors"


def test_nothing_stands_in_where_nothing_is_missing(catalog: Catalog) -> None:
    assert chosen(catalog, "whole", asked="clip_l", noted="my CLIP-L", text_encoder_clip_l="clip_l.safetensors") == ""


def test_each_missing_text_encoder_gets_its_file(catalog: Catalog) -> None:
    both = {"text_encoder_clip_l": "clip_l.safetensors", "text_encoder_clip_g": "XL/Clip G ö.safetensors"}
    assert chosen(catalog, "xl", **both) == "clip_l.safetensors, XL/Clip G ö.safetensors"
    assert chosen(catalog, "xl", noted="XL, my CLIP-L") == "my CLIP-L/pytorch_model.bin, XL/Clip G ö.safetensors"
    assert chosen(catalog, "xl-half", **both) == "XL/Clip G ö.safetensors"
    assert [path.name for path in catalog.text_encoders.paths("clip_l.safetensors, XL/Clip G ö.safetensors")] == [
        "clip_l.safetensors",
        "Clip G ö.safetensors",
    ]


def test_what_nobody_chose_is_left_out_for_the_load_to_tell(catalog: Catalog) -> None:
    assert chosen(catalog, "bare") == ""
    assert chosen(catalog, "xl", text_encoder_clip_l="clip_l.safetensors") == "clip_l.safetensors"


def test_an_infotexts_names_that_are_not_here_are_left_out_where_others_are_chosen(catalog: Catalog) -> None:
    def left(checkpoint: str, told: str, noted: str = "", **preferred: str) -> str:
        return catalog.text_encoders.without_absent([catalog.find_checkpoint(checkpoint)], told, [noted], DEFAULTS | preferred)

    assert left("bare", "gone.safetensors", text_encoder_clip_l="clip_l.safetensors") == ""
    assert left("bare", "gone.safetensors", noted="my CLIP-L") == ""
    assert left("bare", "gone.safetensors") == "gone.safetensors"
    assert left("bare", "gone, clip_l") == "clip_l"
    assert left("xl", "gone, XL", text_encoder_clip_l="clip_l.safetensors") == "XL"
    assert left("xl", "gone, XL") == "gone, XL"
    assert left("xl", "gone", text_encoder_clip_g="XL/Clip G ö.safetensors") == "gone"
    assert left("whole", "gone") == "gone"  # which nothing asks for


def test_one_of_another_width_is_refused_by_name(catalog: Catalog) -> None:
    with pytest.raises(BadModelFile, match=r"vit-h.pt holds a text encoder of width 1024 \(OpenCLIP-H\); bare.safetensors needs CLIP-L"):
        chosen(catalog, "bare", asked="vit-h")
    with pytest.raises(BadModelFile, match=r"half.safetensors holds no text encoder; bare.safetensors needs CLIP-L, of width 768"):
        chosen(catalog, "bare", noted="half")
    with pytest.raises(BadModelFile, match=r"clip_l.safetensors holds a text encoder of width 768"):
        catalog.text_encoders.checked({"text_encoder_clip_g": "clip_l"})


def test_a_preference_is_kept_as_the_file_is_called(catalog: Catalog) -> None:
    assert catalog.text_encoders.checked({"text_encoder_clip_g": "xl/clip g ö", "sd_vae": "None", "text_encoder_clip_l": ""}) == {
        "text_encoder_clip_g": "XL/Clip G ö.safetensors",
        "text_encoder_clip_l": "",
    }
