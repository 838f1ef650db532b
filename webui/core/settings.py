"""Startup settings: flags, frozen."""

import os
import secrets
import shlex
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from webui import __version__
from webui.core.errors import BadRequest
from webui.core.passwords import StoredPassword, store

PROJECT_DIR = Path(__file__).resolve().parents[2]
PACKED = PROJECT_DIR / "webui/packed"  # where a wheel has the model files that ship with Easel; a checkout has none
SHIPPED = PACKED if PACKED.is_dir() else PROJECT_DIR
DATA_DIR = Path.home() / "easel" if PACKED.is_dir() else PROJECT_DIR
MINIATURE = Path("models/Stable-diffusion/easel-miniature.safetensors")  # below SHIPPED
MAX_WORKERS = 256
UPSCALERS = Path("models/upscalers")  # below SHIPPED, too: the upscaler that ships with Easel
UPSCALER_FOLDERS = ("upscalers", "ESRGAN", "RealESRGAN", "SwinIR", "DAT")  # of models/
UPSCALER_FLAGS = ("esrgan", "realesrgan", "swinir", "dat")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Credentials = tuple[tuple[str, StoredPassword], ...]  # (user, what is kept of the password) pairs
Pairs = tuple[tuple[str, str], ...]  # (user, password)

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
    text_encoder_dir: Path  # text encoders for checkpoints that lack theirs
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
    guest_auth: Credentials = field(default=(), repr=False)  # who may make pictures and change nothing
    allow_hosts: tuple[str, ...] = ()  # names, beside its own, for which the server answers
    rate_limit: int = 100  # requests a second that one client may send, 0: any number
    api_enable_requests: bool = False  # whether requests may name pictures by their addresses
    nowebui: bool = False
    checkpoint: str | None = None  # a path, or a name in the catalog
    medvram: bool = False
    lowvram: bool = False
    no_half: bool = False
    no_half_vae: bool = False
    xformers: bool = False
    use_cpu: bool = False
    device_ids: tuple[int, ...] = ()  # CUDA cards for the workers, in turn; none: all that there are, from 0
    workers: int | None = None  # how many there are (of a worker: that share its machine); None: one for each of device_ids, else one
    worker: int = 0  # which of them this process is
    ray: str | None = None  # address of the Ray cluster that has the workers; "local": one on this machine alone
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

    @property
    def device_id(self) -> int | None:
        """The CUDA card of this worker, where one was asked for."""
        return self.device_ids[self.worker % len(self.device_ids)] if self.device_ids else None

    @property
    def reach(self) -> str:
        """Who can use the page: "own" this machine alone, "locked" others with a password, "open" everybody."""
        return "own" if not self.exposed else "locked" if self.gradio_auth else "open"

    @property
    def single_user(self) -> bool:
        """Whether only this machine is served, to at most one user: who then manages everybody's jobs."""
        return not self.exposed and len({user for user, _ in (*self.gradio_auth, *self.api_auth, *self.guest_auth)}) <= 1

    def each_worker(self) -> "list[Settings]":
        """The settings of each worker on this machine, without the passwords."""
        count = self.workers or len(self.device_ids) or 1
        return [replace(self, workers=count, worker=i, gradio_auth=(), api_auth=(), guest_auth=()) for i in range(count)]


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
    add("--guest-auth", metavar="USER:PASSWORD[,...]", help="who may make pictures and see their own, and change nothing")
    add(
        "--allow-host",
        metavar="NAME[,...]",
        default="",
        help="names, beside its own, under which the server answers: a proxy's for instance",
    )
    add(
        "--rate-limit",
        metavar="N",
        type=int,
        default=100,
        help="requests a second that one client may send; 100 unless given, 0: any number",
    )
    add("--api-enable-requests", action="store_true", help="API requests may name pictures by http(s) addresses, which Easel then fetches")
    add("--nowebui", action="store_true", help="only the API")
    add("--data-dir", metavar="DIR", type=Path, default=DATA_DIR, help="root of models/, embeddings/, loras/, outputs/ and the database")
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
    add("--device-id", metavar="N[,N...]", type=_numbers, default=(), help="which GPUs to use, from 0; each gets a worker of its own")
    add("--workers", metavar="N", type=int, help="how many pictures are made at once: a worker for each GPU, or the CPU's cores shared out")
    add("--ray", metavar="ADDRESS", nargs="?", const="local", help="workers on a Ray cluster: auto or HOST:PORT; alone: on this machine")
    add("--theme", choices=("light", "dark"), help="colours of the page; otherwise as the browser likes")
    add("--autolaunch", action="store_true", help="open the page in the browser")
    add("--subpath", default="", help="path of the page behind a reverse proxy")
    add("--tls-keyfile", metavar="FILE", type=Path)
    add("--tls-certfile", metavar="FILE", type=Path)
    add("--cors-allow-origins", metavar="ORIGIN[,...]", default="", help="web pages of these origins may use the API")
    add("--api-server-stop", action="store_true", help="let API clients stop and restart the server")
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
    _check_workers(flags)
    data = flags.data_dir.expanduser().absolute()
    models = flags.models_dir.expanduser().absolute() if flags.models_dir else data / "models"
    host = flags.server_name or ("0.0.0.0" if flags.listen else "127.0.0.1")
    if flags.rate_limit < 0:
        raise BadRequest(f"the rate limit {flags.rate_limit} is below 0: use 0 for none")
    gradio_auth, api_auth, guest_auth = _credentials(flags, exposed=flags.share or host not in LOOPBACK)
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
        text_encoder_dir=models / "text_encoder",
        builtin_checkpoint=SHIPPED / MINIATURE,
        outputs_dir=data / "outputs",
        database=data / "easel.sqlite3",
        temp_dir=data / "tmp",
        host=host,
        gradio_auth=gradio_auth,
        api_auth=api_auth,
        guest_auth=guest_auth,
        allow_hosts=tuple(filter(None, (name.strip().lower() for name in flags.allow_host.split(",")))),
        checkpoint=flags.ckpt,
        use_cpu=flags.use_cpu is not None,
        device_ids=flags.device_id,
        subpath=flags.subpath.strip("/"),
        cors_allow_origins=tuple(filter(None, (origin.strip() for origin in flags.cors_allow_origins.split(",")))),
        warnings=warnings,
        **{name: getattr(flags, name) for name in SAME_NAME.split()},
    )


SAME_NAME = (  # flags whose value is the setting as it is
    "port listen share nowebui medvram lowvram no_half no_half_vae xformers workers ray theme autolaunch tls_keyfile "
    "tls_certfile api_server_stop api_enable_requests rate_limit insecure loglevel"
)


def _numbers(text: str) -> tuple[int, ...]:
    """ "0,1" -> (0, 1)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no list of numbers such as 0,1") from None


def _check_workers(flags: Namespace) -> None:
    """Raises BadRequest for workers that cannot be."""
    if flags.workers is not None and not 1 <= flags.workers <= MAX_WORKERS:
        raise BadRequest(f"--workers {flags.workers} is out of range: use 1 to {MAX_WORKERS}")
    if min(flags.device_id, default=0) < 0:
        raise BadRequest(f"--device-id {min(flags.device_id)}: cards are counted from 0")
    if flags.ray is None:
        return
    if flags.device_id:
        raise BadRequest(
            "--device-id and --ray do not go together: Ray gives each worker a card; hide cards from it with CUDA_VISIBLE_DEVICES"
        )
    if flags.ray.startswith("ray://"):
        raise BadRequest(
            "--ray cannot use a ray:// address: make this machine a node with `ray start --address=HOST:6379`, then --ray auto"
        )


def _folders(default: Path, extra: Path | None) -> tuple[Path, ...]:
    return (default,) if extra is None else (default, extra.expanduser().absolute())


def _upscaler_folders(models: Path, flags: Namespace) -> tuple[Path, ...]:
    named = (getattr(flags, f"{kind}_models_path") for kind in UPSCALER_FLAGS)
    extra = [folder.expanduser().absolute() for folder in named if folder is not None]
    return tuple(dict.fromkeys([*(models / name for name in UPSCALER_FOLDERS), *extra, SHIPPED / UPSCALERS]))


def _credentials(flags: Namespace, exposed: bool) -> tuple[Credentials, Credentials, Credentials]:
    """Who may use page and API, and who is a guest. A server that others can reach, or that has guests, gets a new password for its owner,
    printed once, unless there is one, or --insecure is given."""
    page = _pairs("--gradio-auth", flags.gradio_auth)
    if flags.gradio_auth_path is not None:
        try:
            page += _pairs("--gradio-auth-path", ",".join(flags.gradio_auth_path.read_text("utf-8").split()))
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"the file of --gradio-auth-path cannot be read: {error}") from None
    api, guests = _pairs("--api-auth", flags.api_auth), _pairs("--guest-auth", flags.guest_auth)
    guarded = exposed and not flags.insecure and not (flags.nowebui and api)
    if (guarded or guests) and not page:
        page = (("easel", secrets.token_urlsafe(12)),)
        sys.stdout.write(f"Others can reach this server, so it asks for a password.\n  user: easel\n  password: {page[0][1]}\n")
        sys.stdout.write("Choose your own with --gradio-auth user:password, or open it to everybody with --insecure.\n")
        sys.stdout.flush()
    if {user for user, _ in guests} & {user for user, _ in page + api}:
        raise BadRequest("--guest-auth names a user that --gradio-auth or --api-auth names too; choose other names for guests")
    stored = {pair: store(pair[1]) for pair in {*page, *api, *guests}}
    page_users, api_users, guest_users = (tuple((pair[0], stored[pair]) for pair in pairs) for pairs in (page, api or page, guests))
    return page_users, api_users, guest_users


def _pairs(flag: str, text: str | None) -> Pairs:
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
    }
    ignored = {*IGNORED_SWITCHES.split(), *IGNORED_WITH_VALUE.split()}
    return [f"{flag} is ignored: {reasons.get(flag, 'Easel has no use for it')}" for flag in given if flag in ignored]
