"""Startup settings (flags, frozen) and the table of preferences (changed while running, stored by the service)."""

import os
import secrets
import shlex
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui import __version__
from webui.core.errors import BadRequest
from webui.core.guidance_options import GUIDANCE, GuidanceOption
from webui.core.sampler_options import NOISE_SOURCES, OPTIONS, Option

PROJECT_DIR = Path(__file__).resolve().parents[2]
MINIATURE = Path("models/Stable-diffusion/easel-miniature.safetensors")  # below PROJECT_DIR
UPSCALERS = Path("models/upscalers")  # below PROJECT_DIR, too: the upscaler that ships with Easel
UPSCALER_FOLDERS = ("upscalers", "ESRGAN", "RealESRGAN", "SwinIR", "DAT")  # of models/
UPSCALER_FLAGS = ("esrgan", "realesrgan", "swinir", "dat")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Credentials = tuple[tuple[str, str], ...]  # (user, password) pairs

# Flags of A1111's web UI that change nothing here, joined by spaces: accepted with a warning, so that old start scripts work.
IGNORED_SWITCHES = (
    "--api --api-log --add-stop-route --administrator --allow-code --always-batch-cond-uncond --deepdanbooru --disable-all-extensions "
    "--disable-console-progressbars --disable-extra-extensions --disable-nan-check --disable-model-loading-ram-optimization "
    "--disable-opt-split-attention --disable-safe-unpickle --disable-tls-verify --do-not-download-clip --dump-sysinfo "
    "--enable-console-prompts --enable-insecure-extension-access --force-enable-xformers "
    "--freeze-settings --gradio-debug --gradio-queue --hide-ui-dir-config "
    "--log-startup --lowram --medvram-sdxl --no-download-sd-model --no-gradio-queue --no-hashing --no-progressbar-hiding "
    "--no-prompt-history --opt-channelslast --opt-sdp-attention --opt-sdp-no-mem-attention --opt-split-attention "
    "--opt-split-attention-invokeai --opt-split-attention-v1 --opt-sub-quad-attention --reinstall-torch --reinstall-xformers "
    "--skip-install --skip-load-model-at-start --skip-prepare-environment --skip-python-version-check --skip-torch-cuda-test "
    "--skip-version-check --test-server --unload-gfpgan --upcast-sampling --update-all-extensions --update-check --use-ipex "
    "--xformers-flash-attention"
)
IGNORED_WITH_VALUE = (
    "--bsrgan-models-path --clip-models-path --codeformer-models-path --config --cors-allow-origins-regex "
    "--freeze-settings-in-sections --freeze-specific-settings --gfpgan-dir --gfpgan-model --gfpgan-models-path "
    "--gradio-allowed-path --gradio-img2img-tool --gradio-inpaint-tool --ldsr-models-path --localizations-dir --max-batch-count --ngrok "
    "--ngrok-options --ngrok-region --precision --scunet-models-path --styles-file --sub-quad-chunk-threshold "
    "--sub-quad-kv-chunk-size --sub-quad-q-chunk-size --textual-inversion-templates-dir --timeout-keep-alive "
    "--ui-config-file --ui-settings-file --vae-path"
)
NOT_YET = {  # flags with a setting that nothing reads so far
    "--api-server-stop": "this version's API cannot stop the server",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is fixed when Easel starts. Model folders are in order of preference; the first is where a user is told to put files."""

    data_dir: Path
    checkpoint_dirs: tuple[Path, ...]
    vae_dirs: tuple[Path, ...]
    lora_dirs: tuple[Path, ...]
    embeddings_dirs: tuple[Path, ...]
    hypernetwork_dirs: tuple[Path, ...]
    aesthetic_dirs: tuple[Path, ...]
    upscaler_dirs: tuple[Path, ...]  # the last one is that of the upscaler that ships with Easel
    clip_dir: Path  # CLIP itself, for aesthetic gradients
    builtin_checkpoint: Path  # the miniature, offered whatever data_dir is
    outputs_dir: Path
    database: Path
    temp_dir: Path
    host: str = "127.0.0.1"
    port: int = 7860
    listen: bool = False
    share: bool = False
    gradio_auth: Credentials = field(default=(), repr=False)
    api_auth: Credentials = field(default=(), repr=False)
    nowebui: bool = False
    checkpoint: str | None = None  # a path, or a name in the catalog
    medvram: bool = False
    lowvram: bool = False
    no_half: bool = False
    no_half_vae: bool = False
    xformers: bool = False
    use_cpu: bool = False
    device_id: int | None = None
    theme: str | None = None  # "light", "dark" or None: as the browser likes
    autolaunch: bool = False
    subpath: str = ""  # without slashes at its ends
    tls_keyfile: Path | None = None
    tls_certfile: Path | None = None
    cors_allow_origins: tuple[str, ...] = ()
    api_server_stop: bool = False
    insecure: bool = False
    loglevel: str = "INFO"
    warnings: tuple[str, ...] = ()

    @property
    def exposed(self) -> bool:
        """Whether other machines can reach this server."""
        return self.share or self.host not in LOOPBACK


def parse_flags(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that flags (after those in the variable COMMANDLINE_ARGS) ask for; wrong ones end the program with status 2."""
    parser = _parser()
    try:
        words = [*shlex.split(environ.get("COMMANDLINE_ARGS", "")), *argv]
    except ValueError as error:
        parser.error(f"COMMANDLINE_ARGS cannot be read ({error}): check its quotes")
    flags, unknown = parser.parse_known_args(words)
    if unknown:
        parser.error(f"{unknown[0]!r} is not a flag of Easel; --help lists those it has")
    try:
        return _settings(flags, tuple(_warnings(words)))
    except BadRequest as error:
        parser.error(str(error))


def _parser() -> ArgumentParser:
    parser = ArgumentParser("easel", usage="easel [flags]", description="Easel: a Stable Diffusion web UI.", allow_abbrev=False)
    add = parser.add_argument
    add("--version", action="version", version=f"Easel {__version__}")
    add("--listen", action="store_true", help="let other machines reach the server (0.0.0.0); makes a password unless one is given")
    add("--server-name", metavar="ADDRESS", help="address to listen on instead of 127.0.0.1")
    add("--port", type=int, default=7860, help="7860 unless given")
    add("--share", action="store_true", help="open a public link through Gradio; makes a password unless one is given")
    add("--insecure", action="store_true", help="--listen and --share without a password")
    add("--gradio-auth", metavar="USER:PASSWORD[,...]", help="who may use the page, and the API unless --api-auth is given")
    add("--gradio-auth-path", metavar="FILE", type=Path, help="file with USER:PASSWORD pairs, one a line or joined by commas")
    add("--api-auth", metavar="USER:PASSWORD[,...]", help="who may use the API (/sdapi/v1)")
    add("--nowebui", action="store_true", help="only the API")
    add("--data-dir", metavar="DIR", type=Path, default=PROJECT_DIR, help="root of models/, embeddings/, loras/, outputs/ and the database")
    add("--models-dir", metavar="DIR", type=Path, help="folder with Stable-diffusion/, VAE/, Lora/, hypernetworks/; else DATA_DIR/models")
    for kind in ("ckpt", "vae", "lora", "embeddings", "hypernetwork"):
        add(f"--{kind}-dir", metavar="DIR", type=Path, help="one more folder to look in")
    for kind in UPSCALER_FLAGS:
        add(f"--{kind}-models-path", metavar="DIR", type=Path, help="one more folder with upscalers")
    add("--ckpt", metavar="FILE", help="checkpoint to start with: a path or a name")
    add("--medvram", action="store_true", help="CUDA: keep text encoders, UNet and VAE on the card only while they work")
    add("--lowvram", action="store_true", help="CUDA: as --medvram, and bring the UNet to the card layer by layer; slow")
    add("--no-half", action="store_true", help="32-bit floats throughout")
    add("--no-half-vae", action="store_true", help="32-bit floats in the VAE")
    add("--xformers", action="store_true", help="nothing: xformers' attention is used where it is installed and the device is CUDA")
    add("--use-cpu", metavar="PART", nargs="*", help="do not use the GPU")
    add("--device-id", metavar="N", type=int, help="which GPU to use, from 0")
    add("--theme", choices=("light", "dark"), help="colours of the page; otherwise as the browser likes")
    add("--autolaunch", action="store_true", help="open the page in the browser")
    add("--subpath", default="", help="path of the page behind a reverse proxy")
    add("--tls-keyfile", metavar="FILE", type=Path)
    add("--tls-certfile", metavar="FILE", type=Path)
    add("--cors-allow-origins", metavar="ORIGIN[,...]", default="", help="web pages of these origins may use the API")
    add("--api-server-stop", action="store_true", help="nothing yet: the API has no server-stop, -kill and -restart")
    add("--loglevel", type=str.upper, choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), default="INFO")
    for flag in IGNORED_SWITCHES.split():
        add(flag, action="store_true", help=SUPPRESS)
    for flag in IGNORED_WITH_VALUE.split():
        add(flag, help=SUPPRESS)
    return parser


def _settings(flags: Namespace, warnings: tuple[str, ...]) -> Settings:
    """Settings of parsed flags. Raises BadRequest for values that cannot be used."""
    if not 0 < flags.port < 65536:
        raise BadRequest(f"port {flags.port} is out of range: use 1 to 65535")
    if (flags.tls_keyfile is None) != (flags.tls_certfile is None):
        raise BadRequest("--tls-keyfile and --tls-certfile belong together: give both or neither")
    for file in filter(None, (flags.tls_keyfile, flags.tls_certfile)):
        if not file.is_file():
            raise BadRequest(f"the TLS file {file} is not there; check its path")
    data = flags.data_dir.expanduser().absolute()
    models = flags.models_dir.expanduser().absolute() if flags.models_dir else data / "models"
    host = flags.server_name or ("0.0.0.0" if flags.listen else "127.0.0.1")
    gradio_auth, api_auth = _credentials(flags, exposed=flags.share or host not in LOOPBACK)
    return Settings(
        data_dir=data,
        checkpoint_dirs=_folders(models / "Stable-diffusion", flags.ckpt_dir),
        vae_dirs=_folders(models / "VAE", flags.vae_dir),
        lora_dirs=(*_folders(data / "loras", flags.lora_dir), models / "Lora"),
        embeddings_dirs=_folders(data / "embeddings", flags.embeddings_dir),
        hypernetwork_dirs=_folders(models / "hypernetworks", flags.hypernetwork_dir),
        aesthetic_dirs=(models / "aesthetic_embeddings",),
        upscaler_dirs=_upscaler_folders(models, flags),
        clip_dir=models / "CLIP",
        builtin_checkpoint=PROJECT_DIR / MINIATURE,
        outputs_dir=data / "outputs",
        database=data / "easel.sqlite3",
        temp_dir=data / "tmp",
        host=host,
        gradio_auth=gradio_auth,
        api_auth=api_auth,
        checkpoint=flags.ckpt,
        use_cpu=flags.use_cpu is not None,
        subpath=flags.subpath.strip("/"),
        cors_allow_origins=tuple(filter(None, (origin.strip() for origin in flags.cors_allow_origins.split(",")))),
        warnings=warnings,
        **{name: getattr(flags, name) for name in SAME_NAME.split()},
    )


SAME_NAME = (  # flags whose value is the setting as it is
    "port listen share nowebui medvram lowvram no_half no_half_vae xformers device_id theme autolaunch tls_keyfile tls_certfile "
    "api_server_stop insecure loglevel"
)


def _folders(default: Path, extra: Path | None) -> tuple[Path, ...]:
    return (default,) if extra is None else (default, extra.expanduser().absolute())


def _upscaler_folders(models: Path, flags: Namespace) -> tuple[Path, ...]:
    named = (getattr(flags, f"{kind}_models_path") for kind in UPSCALER_FLAGS)
    extra = [folder.expanduser().absolute() for folder in named if folder is not None]
    return tuple(dict.fromkeys([*(models / name for name in UPSCALER_FOLDERS), *extra, PROJECT_DIR / UPSCALERS]))


def _credentials(flags: Namespace, exposed: bool) -> tuple[Credentials, Credentials]:
    """Who may use page and API. A server that others can reach gets a new password, printed once, unless --insecure is given."""
    page = _pairs("--gradio-auth", flags.gradio_auth)
    if flags.gradio_auth_path is not None:
        try:
            page += _pairs("--gradio-auth-path", ",".join(flags.gradio_auth_path.read_text("utf-8").split()))
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"the file of --gradio-auth-path cannot be read: {error}") from None
    api = _pairs("--api-auth", flags.api_auth)
    if exposed and not flags.insecure and not page and not (flags.nowebui and api):
        page = (("easel", secrets.token_urlsafe(12)),)
        sys.stdout.write(f"Other machines can reach this server, so it asks for a password.\n  user: easel\n  password: {page[0][1]}\n")
        sys.stdout.write("Choose your own with --gradio-auth user:password, or open it to everybody with --insecure.\n")
        sys.stdout.flush()
    return page, api or page


def _pairs(flag: str, text: str | None) -> Credentials:
    pairs = []
    for part in filter(None, (text or "").split(",")):
        user, colon, password = part.strip().partition(":")
        if not (user and colon and password):
            raise BadRequest(f"{flag} takes user:password pairs joined by commas; one of yours has no user or no password")
        pairs.append((user, password))
    return tuple(pairs)


def _warnings(words: Sequence[str]) -> list[str]:
    """A sentence for each flag that is accepted and does nothing."""
    given = dict.fromkeys(word.partition("=")[0] for word in words)
    reasons = {
        "--api": "the API is always on",
        "--disable-safe-unpickle": "model files are never allowed to run code",
        "--allow-code": "requests are never allowed to run code",
        **NOT_YET,
    }
    ignored = {*IGNORED_SWITCHES.split(), *IGNORED_WITH_VALUE.split(), *NOT_YET}
    return [f"{flag} is ignored: {reasons.get(flag, 'Easel has no use for it')}" for flag in given if flag in ignored]


@dataclass(frozen=True)
class Preference:
    """One thing a user may set while Easel runs; `name` is also its name in /sdapi/v1/options. The default's type is the value's type."""

    name: str
    default: str | int | float | bool
    sentence: str
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None

    def check(self, value: Any) -> str | int | float | bool:
        """`value` in the default's type; numbers may come as text, whole numbers with a fraction. Raises BadRequest."""
        if isinstance(self.default, bool):
            return self._bool(value)
        if isinstance(self.default, str):
            return self._text(value)
        return self._number(value)

    def _bool(self, value: Any) -> bool:
        known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
        if str(value).strip().lower() not in known:
            raise BadRequest(f"{self.name} {value!r} is neither true nor false: send one of them")
        return known[str(value).strip().lower()]

    def _text(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > 1000:
            raise BadRequest(f"{self.name} must be a text of at most 1000 characters")
        if self.choices is not None and value not in self.choices:
            raise BadRequest(f"{self.name} {value!r} is not known; choose one of: {', '.join(self.choices)}")
        return value

    def _number(self, value: Any) -> int | float:
        try:
            number = float(value)
            low = self.minimum if self.minimum is None else number < self.minimum
            high = self.maximum if self.maximum is None else number > self.maximum
            if low or high or number != number:
                raise BadRequest(f"{self.name} {value!r} is out of range: use {self.minimum} to {self.maximum}")
            return int(number) if isinstance(self.default, int) else number
        except (TypeError, ValueError, OverflowError):
            raise BadRequest(f"{self.name} {value!r} is not a number") from None


def _preferred(option: Option) -> Preference:
    least, most = (option.least, option.most) if option.most else (None, None)
    return Preference(option.name, option.default, option.sentence, option.choices or None, least, most)


def _limits(option: GuidanceOption) -> tuple[float | None, float | None]:
    return (0, option.most) if option.most else (None, None)


PREFERENCES: tuple[Preference, ...] = (
    Preference("sd_model_checkpoint", "", "Checkpoint that requests use when they name none; empty: the one of --ckpt, or the miniature."),
    Preference("sd_vae", "Automatic", "VAE: Automatic (one beside the checkpoint), None (the checkpoint's own) or a file's name."),
    *(Preference(option.name, option.default, option.sentence, option.choices, *_limits(option)) for option in GUIDANCE),
    Preference("enable_prompt_comments", True, "Take what follows a # in prompts, up to the end of the line, for a comment."),
    Preference("CLIP_stop_at_last_layers", 1, "CLIP skip: 1 uses the text encoder's last layer, 2 the one before.", minimum=1, maximum=12),
    Preference(
        "samples_format",
        "png",
        "Format in which pictures are saved and sent by the API.",
        choices=("png", "jpg", "webp"),
    ),
    Preference("jpeg_quality", 80, "Quality of JPEG and WebP pictures.", minimum=1, maximum=100),
    Preference("live_previews_enable", True, "Show the picture while it is being made."),
    Preference("show_progress_every_n_steps", 1, "Steps between two previews.", minimum=1, maximum=1000),
    Preference(
        "randn_source",
        "CPU",
        "Where noise is drawn: CPU and NV (as an NVIDIA card draws it) give the same on every device, GPU the device's own.",
        choices=NOISE_SOURCES,
    ),
    *map(_preferred, OPTIONS),
)
