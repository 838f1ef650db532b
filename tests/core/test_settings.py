"""Flags become settings; preferences take what clients send and refuse what makes no sense."""

import math
import pickle

import pytest

from webui.core.errors import BadRequest
from webui.core.preferences import PREFERENCES
from webui.core.settings import PROJECT_DIR, parse_flags

PREFERENCE = {preference.name: preference for preference in PREFERENCES}


def flags(*words, environ=None):
    return parse_flags(words, environ or {})


def opens(credentials, *pairs):
    """Whether just these (user, password) pairs are meant, in order."""
    return len(credentials) == len(pairs) and all(
        user == name and stored.fits(word) for (user, stored), (name, word) in zip(credentials, pairs, strict=True)
    )


def test_without_flags_only_this_machine_is_served():
    settings = flags()
    assert (settings.host, settings.port, settings.exposed, settings.gradio_auth) == ("127.0.0.1", 7860, False, ())
    assert settings.data_dir == PROJECT_DIR
    assert settings.checkpoint_dirs == (PROJECT_DIR / "models/Stable-diffusion",)
    assert settings.warnings == ()


def test_the_data_folder_moves_everything_but_the_miniature(tmp_path):
    settings = flags("--data-dir", str(tmp_path))
    for path in (settings.checkpoint_dirs[0], settings.vae_dirs[0], settings.outputs_dir, settings.database, settings.temp_dir):
        assert path.is_relative_to(tmp_path)
    assert settings.builtin_checkpoint == PROJECT_DIR / "models/Stable-diffusion/easel-miniature.safetensors"


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--ckpt-dir", "checkpoint_dirs"),
        ("--vae-dir", "vae_dirs"),
        ("--lora-dir", "lora_dirs"),
        ("--embeddings-dir", "embeddings_dirs"),
        ("--hypernetwork-dir", "hypernetwork_dirs"),
    ],
)
def test_a_folder_flag_adds_a_folder(flag, name, tmp_path):
    folders = getattr(flags(flag, str(tmp_path)), name)
    assert tmp_path in folders
    assert len(folders) > 1


def test_listening_to_others_without_a_password_makes_one_and_prints_it(capsys):
    settings = flags("--listen")
    ((user, stored),) = settings.gradio_auth
    assert (settings.host, settings.exposed, settings.api_auth) == ("0.0.0.0", True, settings.gradio_auth)
    out = capsys.readouterr().out
    assert f"user: {user}" in out
    password = out.partition("password: ")[2].split()[0]
    assert len(password) >= 16
    assert stored.fits(password)
    assert flags("--share").gradio_auth != settings.gradio_auth


@pytest.mark.parametrize("words", [["--listen"], ["--share"], ["--server-name", "192.168.0.2"], ["--listen", "--api-auth", "a:b"]])
def test_no_page_is_open_to_others_by_accident(words):
    assert flags(*words).gradio_auth


def test_insecure_and_own_passwords_make_none(capsys):
    assert flags("--listen", "--insecure").gradio_auth == ()
    assert opens(flags("--listen", "--gradio-auth", "a:b, c:d:e").gradio_auth, ("a", "b"), ("c", "d:e"))
    assert flags("--listen", "--nowebui", "--api-auth", "a:b").gradio_auth == ()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "reach"),
    [
        ([], "own"),
        (["--gradio-auth", "a:b"], "own"),
        (["--listen"], "locked"),
        (["--share", "--insecure"], "open"),
        (["--listen", "--insecure"], "open"),
    ],
)
def test_settings_tell_who_can_reach_the_page(words, reach):
    assert flags(*words).reach == reach


def test_the_page_password_holds_for_the_api_too():
    assert opens(flags("--gradio-auth", "a:b").api_auth, ("a", "b"))
    assert opens(flags("--gradio-auth", "a:b", "--api-auth", "c:d").api_auth, ("c", "d"))
    same = flags("--gradio-auth", "a:b", "--api-auth", "a:b")
    assert same.api_auth == same.gradio_auth


def test_guests_never_leave_the_owner_without_a_password(capsys):
    settings = flags("--guest-auth", "visitor:come in")
    assert opens(settings.guest_auth, ("visitor", "come in"))
    ((_, stored),) = settings.gradio_auth
    assert stored.fits(capsys.readouterr().out.partition("password: ")[2].split()[0])
    assert opens(flags("--guest-auth", "v:w", "--gradio-auth", "a:b").gradio_auth, ("a", "b"))
    with pytest.raises(SystemExit):
        flags("--guest-auth", "a:x", "--gradio-auth", "a:b")


def test_no_password_can_be_read_in_the_settings():
    words = ("--gradio-auth", "a:first-secret", "--api-auth", "b:second-secret", "--guest-auth", "c:third-secret")
    settings = flags(*words)
    assert b"secret" not in pickle.dumps(settings)
    assert "secret" not in repr(settings)


def test_other_hosts_and_the_rate_limit_are_flags():
    settings = flags("--allow-host", "Easel.example.org, b", "--rate-limit", "7")
    assert (settings.allow_hosts, settings.rate_limit, settings.api_enable_requests) == (("easel.example.org", "b"), 7, False)
    with pytest.raises(SystemExit):
        flags("--rate-limit", "-1")


def test_passwords_are_read_from_a_file(tmp_path):
    (tmp_path / "users").write_text("a:b\nc:d,e:f\n")
    assert opens(flags("--gradio-auth-path", str(tmp_path / "users")).gradio_auth, ("a", "b"), ("c", "d"), ("e", "f"))


def test_no_password_shows_when_settings_are_printed():
    assert "hunter2" not in repr(flags("--gradio-auth", "a:hunter2", "--api-auth", "b:hunter2"))


def test_flags_of_a1111_without_use_are_accepted_with_a_warning():
    settings = flags("--api", "--opt-sdp-attention", "--precision", "full", "--no-half", "--disable-safe-unpickle", "--styles-file=x.csv")
    assert settings.no_half
    assert [warning.split()[0] for warning in settings.warnings] == [
        "--api",
        "--opt-sdp-attention",
        "--precision",
        "--disable-safe-unpickle",
        "--styles-file",
    ]
    assert "never allowed to run code" in settings.warnings[3]


@pytest.mark.parametrize(
    "words",
    [
        ["--frobnicate"],
        ["stray"],
        ["--port", "0"],
        ["--port", "x"],
        ["--gradio-auth", "nopassword"],
        ["--gradio-auth-path", "/nowhere/at/all"],
        ["--tls-keyfile", "k"],
        ["--tls-keyfile", "/nowhere/k", "--tls-certfile", "/nowhere/c"],
        ["--loglevel", "loud"],
        ["--workers", "0"],
        ["--workers", "many"],
        ["--device-id", "0,x"],
        ["--device-id=-1"],
        ["--ray", "--device-id", "0"],
        ["--ray", "ray://host:10001"],
        ["--lis"],
    ],
)
def test_wrong_flags_end_the_program_with_a_sentence(words, capsys):
    with pytest.raises(SystemExit) as caught:
        flags(*words)
    assert caught.value.code == 2
    assert "easel: error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "cards"),
    [
        ([], [None]),
        (["--device-id", "1"], [1]),
        (["--device-id", "0,1"], [0, 1]),
        (["--device-id", "2,3", "--workers", "4"], [2, 3, 2, 3]),
        (["--workers", "2"], [None, None]),
    ],
)
def test_each_worker_has_its_number_and_its_card(words, cards):
    workers = flags(*words).each_worker()
    assert [each.device_id for each in workers] == cards
    assert [(each.worker, each.workers) for each in workers] == [(i, len(cards)) for i in range(len(cards))]


def test_workers_know_no_passwords():
    workers = flags("--gradio-auth", "ann:secret", "--workers", "2").each_worker()
    assert [(each.gradio_auth, each.api_auth) for each in workers] == [((), ())] * 2


def test_ray_alone_means_this_machine():
    assert (flags().ray, flags("--ray").ray, flags("--ray", "auto").ray) == (None, "local", "auto")


def test_flags_of_the_environment_come_first():
    settings = flags("--port", "2", environ={"COMMANDLINE_ARGS": "--port 1 --ckpt 'my model.ckpt'"})
    assert (settings.port, settings.checkpoint) == (2, "my model.ckpt")
    with pytest.raises(SystemExit):
        flags(environ={"COMMANDLINE_ARGS": "--ckpt 'open"})


def test_use_cpu_takes_the_parts_that_a1111_takes():
    assert flags("--use-cpu", "all").use_cpu
    assert flags("--use-cpu").use_cpu
    assert not flags().use_cpu


def test_settings_travel_to_another_process():
    settings = flags("--lowvram", "--subpath", "/easel/", "--cors-allow-origins", "http://a, http://b")
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301
    assert (settings.subpath, settings.cors_allow_origins) == ("easel", ("http://a", "http://b"))


def test_help_speaks_of_no_ignored_flag(capsys):
    with pytest.raises(SystemExit):
        flags("--help")
    out = capsys.readouterr().out
    assert "--data-dir" in out
    assert "--opt-split-attention" not in out


def test_every_default_passes_its_own_check():
    for preference in PREFERENCES:
        assert preference.check(preference.default) == preference.default
        assert preference.sentence.endswith(".")


@pytest.mark.parametrize(
    ("name", "sent", "kept"),
    [
        ("CLIP_stop_at_last_layers", "2", 2),
        ("CLIP_stop_at_last_layers", 2.5, 2),
        ("CLIP_stop_at_last_layers", 12.0, 12),
        ("live_previews_enable", 0, False),
        ("live_previews_enable", "True", True),
        ("samples_format", "webp", "webp"),
        ("sd_vae", "None", "None"),
    ],
)
def test_preferences_are_lenient_about_types(name, sent, kept):
    value = PREFERENCE[name].check(sent)
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("CLIP_stop_at_last_layers", 0),
        ("CLIP_stop_at_last_layers", 13),
        ("CLIP_stop_at_last_layers", "x"),
        ("CLIP_stop_at_last_layers", None),
        ("CLIP_stop_at_last_layers", math.nan),
        ("CLIP_stop_at_last_layers", math.inf),
        ("CLIP_stop_at_last_layers", [1]),
        ("jpeg_quality", 10**400),
        ("live_previews_enable", "perhaps"),
        ("live_previews_enable", 2),
        ("samples_format", "bmp"),
        ("samples_format", 1),
        ("sd_model_checkpoint", {}),
        ("sd_model_checkpoint", "x" * 1001),
    ],
)
def test_preferences_refuse_what_makes_no_sense(name, sent):
    with pytest.raises(BadRequest, match=name):
        PREFERENCE[name].check(sent)
