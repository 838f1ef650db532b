"""Embeddings: read from every kind of file, found by name, and encoded as if their vectors were those of words."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.families import family_model
from webui.core import infotext
from webui.core.errors import BadModelFile
from webui.core.event import Notice, Pictures
from webui.core.guidance_options import GuidanceOptions
from webui.core.prompt import parse_attention
from webui.core.request import GenerationRequest
from webui.core.sampler_options import SamplerOptions
from webui.engine.conditioning import ConditioningCache
from webui.engine.embeddings import Embedding, EmbeddingNames, read_embedding, unfit_reason
from webui.engine.generate import generate
from webui.engine.text_encoding import encode_prompt, read_variants, split_into_chunks

VECTORS = torch.randn(3, 768, generator=torch.Generator().manual_seed(0))
WIDE = torch.randn(3, 1280, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():
    return family_model("sd1")


def words_own_vectors(model, words, name="mine"):
    """An embedding whose vectors are those of the words, each one token."""
    ids = model.tokenizer(words, add_special_tokens=False).input_ids
    weights = [encoder.get_input_embeddings().weight[ids].clone() for encoder in model.text_encoders]
    return Embedding(name, {weight.shape[1]: weight for weight in weights})


def encoded(model, prompt, *embeddings):
    return encode_prompt(model, prompt, 1, {embedding.name: embedding for embedding in embeddings})


def chunks(model, prompt, *embeddings):
    """Of each chunk: None for a token of the vocabulary, (name, row) for a vector."""
    names = EmbeddingNames(model, {embedding.name: embedding for embedding in embeddings}, prompt)
    found = split_into_chunks(parse_attention(prompt), model, names)
    return [[token.embedding and (token.embedding.name, token.row) for token in chunk] for chunk in found]


def of(name, count=1, width=768):
    return Embedding(name, {width: torch.ones(count, width)})


def saved(path: Path, content) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


A1111 = {"string_to_token": {"*": 265}, "name": "inside", "step": 500, "sd_checkpoint": "cc6cb271", "sd_checkpoint_name": "v1-5"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a1111.pt", A1111 | {"string_to_param": {"*": torch.nn.Parameter(VECTORS)}}),
        ("old.pt", {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": torch.nn.ParameterDict({"*": VECTORS})}),
        ("half.pt", A1111 | {"string_to_param": {"*": VECTORS.half()}}),
        ("learned.bin", {"<cat-toy>": VECTORS}),
        ("diffusers.safetensors", {"<cat-toy>": VECTORS}),
        ("kohya.safetensors", {"emb_params": VECTORS}),
        ("renamed.pt", {"<cat-toy>": VECTORS}),
    ],
)
def test_every_kind_of_file_is_read_and_named_by_its_file(tmp_path, name, content):
    embedding = read_embedding(saved(tmp_path / name, content))
    assert embedding.name == Path(name).stem
    assert list(embedding.vectors) == [768]
    torch.testing.assert_close(embedding.vectors[768], VECTORS, rtol=1e-3, atol=1e-3)
    assert (embedding.count, embedding.width, embedding.vectors[768].dtype) == (3, 768, torch.float32)


def test_one_vector_without_a_row_is_one_vector(tmp_path):
    assert read_embedding(saved(tmp_path / "x.bin", {"<x>": VECTORS[0]})).vectors[768].shape == (1, 768)


def test_sdxls_files_hold_vectors_for_both_text_encoders(tmp_path):
    embedding = read_embedding(saved(tmp_path / "x.safetensors", {"clip_g": WIDE, "clip_l": VECTORS}))
    assert list(embedding.vectors) == [768, 1280]
    assert torch.equal(embedding.vectors[1280], WIDE)
    assert (embedding.count, embedding.width) == (3, 2048)


def test_what_the_file_says_about_its_training_is_kept(tmp_path):
    embedding = read_embedding(saved(tmp_path / "x.pt", A1111 | {"string_to_param": {"*": VECTORS}}), sha256="ab" * 32)
    assert (embedding.step, embedding.checkpoint, embedding.checkpoint_hash) == (500, "v1-5", "cc6cb271")
    assert embedding.sha256 == "ab" * 32


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"lora_unet_a.lora_down.weight": VECTORS, "lora_unet_a.lora_up.weight": WIDE}, "holds 2 tensors"),
        ({"<x>": torch.zeros(76, 768)}, "up to 75 vectors"),
        ({"<x>": torch.zeros(0, 768)}, "up to 75 vectors"),
        ({"<x>": torch.zeros(1, 1, 768)}, "up to 75 vectors"),
        ({"<x>": torch.zeros(2, 9000)}, "up to 75 vectors"),
        ({"<x>": torch.full((1, 768), float("nan"))}, "not numbers"),
        ({"<x>": torch.zeros(1, 768, dtype=torch.int64)}, "not numbers"),
        ({"clip_l": VECTORS, "clip_g": WIDE[:2]}, "damaged"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path, content, reason):
    with pytest.raises(BadModelFile, match=f"x.safetensors.*{reason}"):
        read_embedding(saved(tmp_path / "x.safetensors", content))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sdxl_refiner"])
def test_a_words_own_vector_encodes_as_the_word(family):
    model = family_model(family)
    mine = words_own_vectors(model, "circle")
    ours, plain = encoded(model, "a red mine, big", mine), encoded(model, "a red circle, big")
    torch.testing.assert_close(ours.states, plain.states)
    torch.testing.assert_close(ours.pooled, plain.pooled)
    assert not torch.allclose(encoded(model, "a red mine, big").states, plain.states)


def test_several_vectors_stand_side_by_side_and_move_what_follows(model):
    mine = words_own_vectors(model, "red circle")
    torch.testing.assert_close(encoded(model, "a mine on blue", mine).states, encoded(model, "a red circle on blue").states)


def test_weights_apply_to_all_vectors(model):
    mine = words_own_vectors(model, "red circle")
    torch.testing.assert_close(encoded(model, "a (mine:1.5)", mine).states, encoded(model, "a (red circle:1.5)").states)


def test_embeddings_of_two_chunks_and_of_both_prompts_keep_their_places(model):
    red, blue = words_own_vectors(model, "red", "one"), words_own_vectors(model, "blue", "two")
    ours = encoded(model, "one cat BREAK a two dog, one", red, blue)
    torch.testing.assert_close(ours.states, encoded(model, "red cat BREAK a blue dog, red").states)
    assert [used.name for used in ours.embeddings] == ["one", "two"]


def test_names_are_found_whatever_their_case_and_spaces(model):
    assert chunks(model, "x BAD-Hands-5 y", of("bad-hands-5")) == [[None, ("bad-hands-5", 0), None]]
    assert chunks(model, "bad  -  hands-5", of("Bad-Hands-5")) == [[("Bad-Hands-5", 0)]]


def test_the_longest_name_wins(model):
    assert chunks(model, "easy negative v2", of("easy"), of("easy negative v2"), of("easy negative")) == [[("easy negative v2", 0)]]
    assert chunks(model, "easy negative", of("easy"), of("easy negative v2")) == [[("easy", 0), None]]


def test_part_of_a_word_calls_nothing(model):
    assert chunks(model, "carpet", of("car")) == [[None]]


def test_a_name_that_brackets_divide_calls_nothing(model):
    assert ("easy negative", 0) not in chunks(model, "easy (negative:1.2)", of("easy negative"))[0]


def test_every_vector_counts_as_a_token(model):
    assert [len(chunk) for chunk in chunks(model, "cat " * 72 + "mine dog", of("mine", 3))] == [75, 1]


def test_an_embedding_is_never_in_two_chunks(model):
    found = chunks(model, "cat " * 73 + "mine dog", of("mine", 3))
    assert found == [[None] * 73, [("mine", 0), ("mine", 1), ("mine", 2), None]]


def test_a_comma_takes_an_embedding_along_into_the_next_chunk(model):
    found = chunks(model, "cat " * 64 + ", mine " + "dog " * 10, of("mine", 3))
    assert found == [[None] * 65, [("mine", 0), ("mine", 1), ("mine", 2), *[None] * 10]]


def test_75_vectors_fill_a_chunk_of_their_own(model):
    assert [len(chunk) for chunk in chunks(model, "cat mine dog", of("mine", 75))] == [1, 75, 1]


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_encoding_leaves_no_trace_on_the_text_encoders(family, monkeypatch):
    model = family_model(family)
    before = [{key: tensor.clone() for key, tensor in encoder.state_dict().items()} for encoder in model.text_encoders]
    plain = encoded(model, "mine").states
    encoded(model, "mine", words_own_vectors(model, "circle"))
    with monkeypatch.context() as patch:
        patch.setattr(model.text_encoder, "forward", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encoded(model, "mine", words_own_vectors(model, "circle"))
    for encoder, weights in zip(model.text_encoders, before, strict=True):
        assert all(torch.equal(tensor, weights[key]) for key, tensor in encoder.state_dict().items())
        assert not encoder.get_input_embeddings()._forward_hooks
    assert torch.equal(encoded(model, "mine").states, plain)


def test_embeddings_of_another_width_are_words_and_the_reason_is_a_sentence(model):
    other = of("mine", width=1024)
    assert unfit_reason(of("mine"), model) is None
    assert unfit_reason(other, model) == (
        "mine was made for SD 2.x, 1024 numbers a vector; the loaded checkpoint is of another kind (SD 1.x, 768 numbers a vector)"
    )
    assert torch.equal(encoded(model, "a mine", other).states, encoded(model, "a mine").states)
    assert encoded(model, "a mine", other).embeddings == ()


def test_a_call_of_one_that_does_not_fit_is_told_and_none_else(model):
    others = {name: of(name, width=1024) for name in ("mine", "never")}
    variants, _ = read_variants(model, ["a (mine:1.2)", "a mine, fine"], others | {"fine": of("fine")})
    assert variants.unfit == (
        "the embedding mine was made for SD 2.x, 1024 numbers a vector; the loaded checkpoint is of another kind "
        "(SD 1.x, 768 numbers a vector), so its name was read as words",
    )
    assert read_variants(model, ["a fine min e"], others | {"fine": of("fine")})[0].unfit == ()


def test_sdxls_embeddings_are_not_used_by_halves(model):
    both = Embedding("mine", {768: VECTORS, 1280: WIDE})
    assert unfit_reason(both, family_model("sdxl")) is None
    assert unfit_reason(both, model)
    assert unfit_reason(both, family_model("sdxl_refiner"))
    assert unfit_reason(of("mine"), family_model("sdxl"))


class Folder(dict):
    """Embeddings that are read when they are called for."""

    def __init__(self, *embeddings):
        super().__init__({embedding.name: embedding for embedding in embeddings})
        self.read = []

    def __getitem__(self, name):
        self.read.append(name)
        return super().__getitem__(name)


class Alone:
    interrupted = previews = False

    def take_skip(self):
        return False


ONE_STEP = GenerationRequest(
    prompt="a circle",
    width=64,
    height=64,
    steps=1,
    seed=1,
    variation_seed=0,
    sampler="Euler",
    vae="None",
    sampler_options=SamplerOptions(),
    guidance=GuidanceOptions(),
)


def test_pictures_use_the_embeddings_that_they_are_given_and_name_them(model):
    folder = Folder(
        replace(words_own_vectors(model, "circle"), sha256="0123456789abcdef" * 4),
        replace(of("bad"), sha256="f" * 64),
        replace(of("unhashed")),
        of("never"),
    )
    request = replace(ONE_STEP, prompt="a mine, mine, unhashed", negative_prompt="bad, mine")
    events = generate(request, Alone(), load=lambda asked: model, open_input={}.__getitem__, embeddings=lambda: folder)
    text, single = next((event.pictures[0].infotext, event.pictures[0].request) for event in events if isinstance(event, Pictures))
    assert infotext.read(text).params["TI hashes"] == "mine: 0123456789ab, bad: ffffffffffff"
    assert infotext.to_request(infotext.read(text), single) == (replace(single, variation_seed=-1, guidance=GuidanceOptions()), [])
    assert set(folder.read) == {"mine", "bad", "unhashed"}


def test_a_job_tells_once_which_embeddings_it_could_not_use(model):
    """Also a second time, where their conditionings are kept, and whichever of the prompts calls them."""
    folder, cache = Folder(of("mine", width=1024), of("bad", width=1024), of("never", width=1024)), ConditioningCache()
    request = replace(ONE_STEP, prompt="a mine", negative_prompt="bad, mine", batch_count=2)
    for _ in range(2):
        events = generate(
            request, Alone(), load=lambda asked: model, open_input={}.__getitem__, embeddings=lambda: folder, conditionings=cache
        )
        told = [event.text for event in events if isinstance(event, Notice)]
        assert [text.split(" was made for ")[0] for text in told] == ["the embedding bad", "the embedding mine"]
