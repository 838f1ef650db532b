from webui.core.infotext import read, write
from webui.core.named_models import MOST_NAMED, NamedModel, named_models
from webui.core.request import GenerationRequest

SETTINGS = "Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 512x512"


def named(text: str, files: dict[str, str] | None = None) -> list[tuple[str, str, str]]:
    return [(model.kind, model.name, model.digits) for model in named_models(read(text), files)]


def test_every_kind_of_model_is_found_with_its_hash() -> None:
    text = (
        f"a <lora:ink:1> fox <hypernet:anime:0.5>\nNegative prompt: blurry\n{SETTINGS}, Model hash: 0123456789, Model: base, "
        'VAE hash: abcdef0123, VAE: soft.pt, Denoising strength: 0.4, Hires upscale: 2, Hires checkpoint: "large [9876543210]", '
        "Hires upscaler: 4x-Sharp, "
        'Lora hashes: "ink: 0123456789ab, unsaid: ba9876543210", TI hashes: "bad: ffffffffffff, bad: ffffffffffff"'
    )
    assert named(text) == [
        ("checkpoint", "base", "0123456789"),
        ("checkpoint", "large", "9876543210"),
        ("vae", "soft.pt", "abcdef0123"),
        ("lora", "ink", "0123456789ab"),
        ("hypernetwork", "anime", ""),
        ("lora", "unsaid", "ba9876543210"),
        ("embedding", "bad", "ffffffffffff"),
        ("upscaler", "4x-Sharp", ""),
    ]


def test_upscalers_that_are_no_files_and_vaes_that_are_the_checkpoints_own_are_none() -> None:
    assert named(f"x\n{SETTINGS}, VAE: Automatic, Denoising strength: 0.4, Hires upscale: 2, Hires upscaler: Latent (nearest)") == []


def test_the_hash_of_nothing_is_no_hash() -> None:
    assert named(f'<lora:ink:1>\n{SETTINGS}, Lora hashes: "ink: e3b0c44298fc"') == [("lora", "ink", "")]


def test_old_texts_name_a_hypernetwork_without_a_tag() -> None:
    assert named(f"x\n{SETTINGS}, Hypernet: anime(c0ffee00), Hypernet strength: 0.5") == [("hypernetwork", "anime", "")]


def test_a_tag_that_names_nothing_hides_no_other_model() -> None:
    assert named(f"<lora::1>\n{SETTINGS}, Model: base") == [("checkpoint", "base", "")]


def test_a_recipe_knows_hashes_that_the_text_has_not() -> None:
    text = f"<lora:ink:1> <hypernet:anime:1>\n{SETTINGS}, SD upscale upscaler: 4x-Sharp"
    files = {"upscaler 4x-Sharp": "a" * 64, "hypernet anime": "b" * 64, "lora ink": "c" * 64}  # of LoRAs the text has another hash
    assert named(text, files) == [("lora", "ink", ""), ("hypernetwork", "anime", "b" * 64), ("upscaler", "4x-Sharp", "a" * 64)]


def test_our_own_text_names_its_checkpoint_as_the_catalog_does() -> None:
    text = write(GenerationRequest(seed=1, variation_seed=0, checkpoint="sub/base.ckpt", checkpoint_hash="0123456789", vae="None"))
    assert named_models(read(text)) == [NamedModel("checkpoint", "sub/base.ckpt", "0123456789")]


def test_a_text_that_names_thousands_is_cut() -> None:
    assert len(named("".join(f"<lora:a{i}:1>" for i in range(10_000)) + f"\n{SETTINGS}")) == MOST_NAMED
