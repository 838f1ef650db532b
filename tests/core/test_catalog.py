"""Model folders are listed without trust, and models found by every name that users know."""

import hashlib
import json
import os
import struct
import time
from dataclasses import replace

import pytest

from webui.core.catalog import Catalog, MemoryHashes, sha256_of
from webui.core.errors import BadModelFile, MissingModel
from webui.core.settings import parse_flags

FIRST = "model.diffusion_model.input_blocks.0.0.weight"
KEYS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def safetensors(shapes: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> bytes:
    """A file of zeros in 8 bits with these tensors."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 1
        for side in shape:
            size *= side
        header[name] = {"dtype": "U8", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps({**({"__metadata__": metadata} if metadata else {}), **header}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


CHECKPOINT = safetensors({FIRST: (8, 4, 3, 3), KEYS: (8, 768)})


@pytest.fixture
def settings(tmp_path):
    made = parse_flags(["--data-dir", str(tmp_path), "--vae-dir", str(tmp_path / "more vaes")], {})
    return replace(made, builtin_checkpoint=tmp_path / "built in/mini.safetensors")


@pytest.fixture
def folder(settings):
    settings.checkpoint_dirs[0].mkdir(parents=True)
    return settings.checkpoint_dirs[0]


def put(path, data=CHECKPOINT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def repr_short(data):
    return repr(data[:12])


def names(models):
    return [model.name for model in models]


def test_an_empty_folder_holds_the_miniature(settings):
    put(settings.builtin_checkpoint, safetensors({FIRST: (8, 4, 3, 3), KEYS: (8, 128)}))
    catalog = Catalog(settings)
    assert names(catalog.checkpoints()) == ["mini.safetensors"]
    assert catalog.default_checkpoint().family.name == "miniature"
    assert catalog.find_checkpoint("") == catalog.default_checkpoint()
    assert (catalog.vaes(), catalog.loras(), catalog.embeddings(), catalog.hypernetworks()) == ([], [], [], [])


def test_without_any_checkpoint_the_user_is_told_where_to_put_one(settings):
    with pytest.raises(MissingModel, match=r"put one into .*Stable-diffusion"):
        Catalog(settings).default_checkpoint()


def test_the_flag_ckpt_names_a_file_outside_the_folders(settings, tmp_path):
    path = put(tmp_path / "elsewhere/own.safetensors")
    put(settings.builtin_checkpoint)
    catalog = Catalog(replace(settings, checkpoint=str(path)))
    assert catalog.default_checkpoint().path == path
    assert len(catalog.checkpoints()) == 2


def test_a_checkpoint_tells_title_hash_and_family(settings, folder):
    put(folder / "sub/a b.safetensors")
    (model,) = Catalog(settings).checkpoints()
    digest = hashlib.sha256(CHECKPOINT).hexdigest()
    assert (model.title, model.stem, model.model_name) == (f"sub/a b.safetensors [{digest[:10]}]", "a b", "sub_a b")
    assert (model.sha256, model.size, model.family.name, model.problem) == (digest, len(CHECKPOINT), "sd1", "")


@pytest.mark.parametrize(
    "found_by", ["title", "name", "model_name", "stem", "path", "short_hash", "sha256", "upper", "no hash", "stale hash"]
)
def test_a_checkpoint_is_found_by_every_name(settings, folder, found_by):
    put(folder / "sub/Other.safetensors", safetensors({FIRST: (8, 4, 3, 3), KEYS: (9, 768)}))
    put(folder / "sub/Model A.safetensors")
    catalog = Catalog(settings)
    model = next(model for model in catalog.checkpoints() if model.stem == "Model A")
    spelled = {
        "upper": "MODEL A",
        "no hash": "Model A.safetensors",
        "stale hash": "sub/Model A.safetensors [0123456789]",
        "path": str(model.path),
    }
    assert catalog.find_checkpoint(spelled.get(found_by) or getattr(model, found_by)) == model


def test_a_name_without_ending_means_the_safetensors_file_before_the_torch_file_beside_it(settings, folder):
    for name in ("same.ckpt", "same.safetensors", "alone.ckpt", "sub/same.ckpt"):
        put(folder / name, name.encode())
    catalog = Catalog(settings)
    titles = {model.name: model.title for model in catalog.checkpoints()}
    asked = {text: catalog.find_checkpoint(text).name for text in ("same", "SAME", "same.ckpt", titles["same.ckpt"], "alone", "sub/same")}
    assert list(asked.values()) == ["same.safetensors", "same.safetensors", "same.ckpt", "same.ckpt", "alone.ckpt", "sub/same.ckpt"]


def test_hashes_of_old_pictures_find_their_checkpoint(settings, folder):
    data = os.urandom(0x100000 + 100)
    put(folder / "a small one.ckpt", b"x")
    put(folder / "big.ckpt", data)
    catalog = Catalog(settings)
    assert catalog.find_checkpoint(hashlib.sha256(data[0x100000:]).hexdigest()[:8]).name == "big.ckpt"
    with pytest.raises(MissingModel):
        catalog.find_checkpoint("e3b0c442")  # of nothing at all: what short files would have


def test_a_hash_in_brackets_counts_more_than_a_name_that_is_gone(settings, folder):
    put(folder / "new name.safetensors")
    digest = hashlib.sha256(CHECKPOINT).hexdigest()[:10]
    assert Catalog(settings).find_checkpoint(f"old name.safetensors [{digest}]").name == "new name.safetensors"


def test_what_is_missing_is_answered_with_what_comes_close(settings, folder):
    put(folder / "dreamshaper_8.safetensors")
    catalog = Catalog(settings)
    with pytest.raises(MissingModel, match=r"did you mean dreamshaper_8\.safetensors"):
        catalog.find_checkpoint("dreamshaper8")
    with pytest.raises(MissingModel, match="refresh the list"):
        catalog.find_checkpoint("zzz" * 1000)
    with pytest.raises(MissingModel, match="VAE 'kl' is not there"):
        catalog.find_vae("kl")


def test_a_file_that_went_away_is_told(settings, folder):
    path = put(folder / "a.safetensors")
    catalog = Catalog(settings)
    catalog.checkpoints()
    path.unlink()
    with pytest.raises(MissingModel, match="not there any more"):
        catalog.find_checkpoint("a")
    catalog.refresh()
    assert catalog.checkpoints() == []


def test_new_files_appear_after_a_refresh(settings, folder):
    catalog = Catalog(settings)
    assert catalog.checkpoints() == []
    put(folder / "a.safetensors")
    assert catalog.checkpoints() == []
    catalog.refresh()
    assert names(catalog.checkpoints()) == ["a.safetensors"]


def test_a_vae_beside_its_checkpoint_is_chosen_by_itself(settings, folder):
    put(folder / "a.safetensors")
    put(folder / "b.safetensors")
    put(folder / "c.safetensors")
    put(folder / "a.vae.pt", b"x")
    put(settings.vae_dirs[0] / "b.vae.safetensors", b"x")
    put(settings.vae_dirs[1] / "kl.pt", b"x")
    catalog = Catalog(settings)
    assert names(catalog.checkpoints()) == ["a.safetensors", "b.safetensors", "c.safetensors"]
    assert names(catalog.vaes()) == ["b.vae.safetensors", "kl.pt", "a.vae.pt"]
    assert [getattr(catalog.automatic_vae(model), "name", None) for model in catalog.checkpoints()] == [
        "a.vae.pt",
        "b.vae.safetensors",
        None,
    ]
    assert catalog.find_vae("kl").path == settings.vae_dirs[1] / "kl.pt"


def test_files_of_one_name_in_two_folders_are_both_there(settings, folder, tmp_path):
    settings = replace(settings, checkpoint_dirs=(folder, tmp_path / "more"))
    put(folder / "a.safetensors")
    put(tmp_path / "more/a.safetensors")
    assert names(Catalog(settings).checkpoints()) == ["a.safetensors", "more/a.safetensors"]


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x80\x02}q\x00.", bytes(100), struct.pack("<Q", 2**62) + b"{}", struct.pack("<Q", 2) + b"[]"], ids=repr_short
)
def test_damaged_files_are_listed_with_their_problem(settings, folder, data):
    put(folder / "a.safetensors", data)
    (model,) = Catalog(settings).checkpoints()
    assert model.family is None
    assert "a.safetensors" in model.problem


def test_a_vae_among_the_checkpoints_is_told_apart(settings, folder):
    put(folder / "a.safetensors", safetensors({"decoder.conv_in.weight": (1,)}))
    (model,) = Catalog(settings).checkpoints()
    assert "models/VAE" in model.problem


def test_strange_things_in_the_folders_neither_block_nor_break(settings, folder):
    put(folder / "good.safetensors")
    os.mkfifo(folder / "fifo.safetensors")
    (folder / "zero.safetensors").symlink_to("/dev/zero")
    (folder / "dangling.safetensors").symlink_to("nowhere")
    (folder / "loop.safetensors").symlink_to("loop.safetensors")
    (folder / "self").symlink_to(folder)
    (folder / "folder.safetensors").mkdir()
    (folder / ".hidden.safetensors").write_bytes(CHECKPOINT)
    (folder / "line\nbreak.safetensors").write_bytes(CHECKPOINT)
    with open(os.fsencode(folder) + b"/bad\xff.safetensors", "wb") as file:
        file.write(CHECKPOINT)
    put(folder / ("x" * 240 + ".ckpt"), b"x")
    put(folder / "<b>.safetensors")
    begin = time.monotonic()
    found = names(Catalog(settings).checkpoints())
    assert time.monotonic() - begin < 5
    assert found == ["<b>.safetensors", "good.safetensors", "x" * 240 + ".ckpt"]


def test_a_link_to_a_model_elsewhere_is_followed(settings, folder, tmp_path):
    (folder / "linked.safetensors").symlink_to(put(tmp_path / "disk/real.safetensors"))
    (folder / "more").symlink_to(tmp_path / "disk")
    assert names(Catalog(settings).checkpoints()) == ["linked.safetensors", "more/real.safetensors"]


def test_hashes_are_asked_of_the_store_and_told_to_it(settings, folder):
    path = put(folder / "a.safetensors")
    store = MemoryHashes()
    Catalog(settings, store).checkpoints()
    status = path.stat()
    assert store.get(path, status.st_mtime, status.st_size) == sha256_of(path)
    store.put(path, status.st_mtime, status.st_size, "f" * 64)
    assert Catalog(settings, store).checkpoints()[0].short_hash == "f" * 10


def test_large_files_are_hashed_only_when_asked(settings, folder):
    path = put(folder / "large.ckpt", b"")
    os.truncate(path, 65_000_000)
    catalog = Catalog(settings)
    (model,) = catalog.checkpoints()
    assert (model.sha256, model.title) == (None, "large.ckpt")
    hashed = catalog.with_hash(model)
    assert hashed.sha256 == sha256_of(path)
    catalog.refresh()
    assert catalog.checkpoints() == [hashed]


def test_hashing_refuses_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BadModelFile):
        sha256_of(tmp_path / "fifo")
    with pytest.raises(MissingModel):
        sha256_of(tmp_path / "none")


@pytest.mark.parametrize("kind", ["lora", "embedding", "hypernetwork"])
def test_what_prompts_mention_is_found_by_file_name_with_or_without_folder_and_ending(settings, kind):
    catalog = Catalog(settings)
    find = {"lora": catalog.find_lora, "embedding": catalog.find_embedding, "hypernetwork": catalog.find_hypernetwork}[kind]
    folder = {"lora": settings.lora_dirs, "embedding": settings.embeddings_dirs, "hypernetwork": settings.hypernetwork_dirs}[kind][0]
    put(folder / "sub/Nice One.pt")
    put(folder / "sub/Nice One.safetensors")
    for text in ("Nice One", "nice one", "sub/Nice One", "Nice One.safetensors", " Nice One "):
        assert find(text).name == "sub/Nice One.safetensors"
    assert find("nice one.pt").name == "sub/Nice One.pt"
    put(folder / "nice one.pt")
    assert find("nice one").name == "nice one.pt"
    with pytest.raises(MissingModel, match=r"'Nice Oen' is not there; did you mean"):
        find("Nice Oen")


def test_a_checkpoint_that_came_after_the_last_look_is_found_and_a_changed_one_read_anew(settings, folder):
    put(folder / "a.safetensors")
    catalog = Catalog(settings)
    assert catalog.find_checkpoint("a").family.name == "sd1"
    put(folder / "sub/late.safetensors", safetensors({FIRST: (8, 4, 3, 3), KEYS: (8, 2048)}))
    assert catalog.find_checkpoint("sub/late").family.name == "sdxl"
    put(folder / "a.safetensors", safetensors({FIRST: (8, 4, 3, 3), KEYS: (9, 1024)}))
    changed = catalog.find_checkpoint("a")
    assert (changed.family.name, changed.sha256) == ("sd2", sha256_of(changed.path))


def test_an_unchanged_checkpoint_is_not_opened_again(settings, folder, monkeypatch):
    put(folder / "a.safetensors")
    catalog = Catalog(settings)
    first = catalog.checkpoints()
    monkeypatch.setattr("webui.core.catalog.read_details", None)
    catalog.refresh()
    assert catalog.checkpoints() == first


def test_the_hash_of_a_loras_tensors_does_not_follow_its_metadata(settings):
    tensors = {"a.lora_down.weight": (4, 5)}
    for number in range(2):
        put(settings.lora_dirs[0] / f"{number}.safetensors", safetensors(tensors, {"note": "x" * number + "y"}))
    catalog = Catalog(settings)
    hashes = {catalog.lora_hash(model) for model in catalog.loras()}
    assert hashes == {hashlib.sha256(bytes(20)).hexdigest()[:12]}


def test_the_vae_that_a_checkpoints_json_names_comes_before_the_one_beside_it(settings, folder):
    put(folder / "a.safetensors")
    put(folder / "a.vae.pt", b"x")
    put(settings.vae_dirs[0] / "wanted.pt", b"x")
    catalog = Catalog(settings)
    (model,) = catalog.checkpoints()
    assert catalog.vae_for(model).name == "a.vae.pt"
    for said, name in (("wanted.pt", "wanted.pt"), ("None", None), ("Automatic", "a.vae.pt"), ("", "a.vae.pt")):
        (folder / "a.json").write_text(json.dumps({"vae": said}))
        assert getattr(catalog.vae_for(model), "name", None) == name
    (folder / "a.json").write_text('{"vae": "gone.pt"}')
    with pytest.raises(MissingModel, match="gone"):
        catalog.vae_for(model)
