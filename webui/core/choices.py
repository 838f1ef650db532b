"""The names a request may use, as data: samplers, schedule types, resize modes, mask fills. The functions behind them are the engine's."""

from dataclasses import dataclass

from webui.core.errors import BadRequest


@dataclass(frozen=True)
class SamplerChoice:
    """One sampler as the field names it.

    default_schedule: what schedule type "Automatic" means for it (semantics: A1111 1.10).
    calls_per_step: network calls in one step as the field counts them, over which changing prompts and guidance options are laid; up to
    three of HeunPP2 stand for one there, so that its changes come early.
    kind: "sigma" samplers step over noise levels; "timestep" samplers (DDIM, PLMS, UniPC, TCD) over training timesteps; "lcm"; "own"
    samplers (DPM fast, DPM adaptive) lay their own levels between the ends.
    ancestral: whether it draws noise while it runs, with no option set.
    discards: whether its schedule is one step longer and loses the last level but one.
    """

    name: str
    aliases: tuple[str, ...] = ()
    default_schedule: str = "Uniform"
    calls_per_step: int = 1
    kind: str = "sigma"
    ancestral: bool = False
    discards: bool = False


SAMPLERS: dict[str, SamplerChoice] = {
    choice.name: choice
    for choice in (
        SamplerChoice("DPM++ 2M", ("k_dpmpp_2m",), "Karras"),
        SamplerChoice("DPM++ SDE", ("k_dpmpp_sde",), "Karras", calls_per_step=2, ancestral=True),
        SamplerChoice("DPM++ 2M SDE", ("k_dpmpp_2m_sde",), "Exponential", ancestral=True),
        SamplerChoice("DPM++ 2M SDE Heun", ("k_dpmpp_2m_sde_heun",), "Exponential", ancestral=True),
        SamplerChoice("DPM++ 2S a", ("k_dpmpp_2s_a",), "Karras", calls_per_step=2, ancestral=True),
        SamplerChoice("DPM++ 3M SDE", ("k_dpmpp_3m_sde",), "Exponential", ancestral=True, discards=True),
        SamplerChoice("Euler a", ("k_euler_a", "k_euler_ancestral"), ancestral=True),
        SamplerChoice("Euler", ("k_euler",)),
        SamplerChoice("LMS", ("k_lms",)),
        SamplerChoice("Heun", ("k_heun",), calls_per_step=2),
        SamplerChoice("DPM2", ("k_dpm_2",), "Karras", calls_per_step=2, discards=True),
        SamplerChoice("DPM2 a", ("k_dpm_2_a",), "Karras", calls_per_step=2, ancestral=True, discards=True),
        SamplerChoice("DPM fast", ("k_dpm_fast",), kind="own", ancestral=True),
        SamplerChoice("DPM adaptive", ("k_dpm_ad",), kind="own", ancestral=True),
        SamplerChoice("Restart", ("restart",), "Karras", calls_per_step=2, ancestral=True),
        SamplerChoice("HeunPP2", ("heunpp2",)),
        SamplerChoice("IPNDM", ("ipndm",)),
        SamplerChoice("DEIS", ("deis",)),
        SamplerChoice("Euler CFG++", ("k_euler_cfg_pp", "euler_cfg_pp")),
        SamplerChoice("DDIM", ("ddim",), kind="timestep"),
        SamplerChoice("DDIM CFG++", ("ddim_cfgpp",), kind="timestep"),
        SamplerChoice("PLMS", ("plms",), kind="timestep"),
        SamplerChoice("UniPC", ("unipc",), kind="timestep"),
        SamplerChoice("TCD", ("tcd",), kind="timestep", ancestral=True),
        SamplerChoice("LCM", ("k_lcm", "lcm"), kind="lcm", ancestral=True),
    )
}


@dataclass(frozen=True)
class ScheduleChoice:
    """One schedule type: `label` is shown and written, `name` is the wire protocol's identifier; default_rho -1: it has no bend."""

    label: str
    name: str
    aliases: tuple[str, ...] = ()
    default_rho: float = -1.0
    on_levels: bool = False  # whether it is laid over the checkpoint's own noise levels, not only between their ends


SCHEDULE_TYPES: dict[str, ScheduleChoice] = {
    choice.label: choice
    for choice in (
        ScheduleChoice("Automatic", "automatic"),
        ScheduleChoice("Uniform", "uniform", on_levels=True),
        ScheduleChoice("Karras", "karras", default_rho=7.0),
        ScheduleChoice("Exponential", "exponential"),
        ScheduleChoice("Polyexponential", "polyexponential", default_rho=1.0),
        ScheduleChoice("SGM Uniform", "sgm_uniform", ("SGMUniform",), on_levels=True),
        ScheduleChoice("KL Optimal", "kl_optimal"),
        ScheduleChoice("Align Your Steps", "align_your_steps"),
        ScheduleChoice("Simple", "simple", on_levels=True),
        ScheduleChoice("Normal", "normal", on_levels=True),
        ScheduleChoice("DDIM", "ddim", on_levels=True),
        ScheduleChoice("Beta", "beta"),
        ScheduleChoice("Turbo", "turbo", on_levels=True),
    )
}

SHORT_ENDINGS = {"karras": "_ka", "exponential": "_exp"}  # of old aliases: k_dpmpp_2m_ka

RESIZE_MODES = ("Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)")  # the index is the wire number
OUTPAINT_WAYS = ("Easel", "Outpainting mk2", "Poor man's outpainting")
MASKED_CONTENT = ("fill", "original", "latent noise", "latent nothing")  # the index is the wire number

TILINGS = ("Off", "Both", "Horizontal", "Vertical")  # along which axes a picture can be laid beside itself without a seam
LATENT_UPSCALERS = (  # of hires fix: the first pass's latents are stretched
    *("Latent", "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)"),
    *("Latent (nearest)", "Latent (nearest-exact)"),
)
PIXEL_UPSCALERS = ("None", "Lanczos", "Nearest")  # the picture is made larger
UPSCALERS = LATENT_UPSCALERS + PIXEL_UPSCALERS  # those that are always there
MAX_UPSCALER = 300  # characters of a model's name


def check_upscaler(what: str, name: str) -> None:
    """Raises BadRequest for what cannot be an upscaler's name. Whether there is such a model, only the catalog knows."""
    if not name.strip() or len(name) > MAX_UPSCALER:
        raise BadRequest(f"{what} {name[:100]!r} is not known; choose one of: {', '.join(UPSCALERS)}, or a model of the list")


def find_sampler(name: str, schedule_type: str = "Automatic") -> tuple[str, str]:
    """The canonical (sampler, schedule type) for a name, an alias or an old joined name ("DPM++ 2M Karras").

    A schedule type that is joined to the name counts only where `schedule_type` is "Automatic" or empty.
    Raises BadRequest for names that nobody knows.
    """
    schedule = find_schedule_type(schedule_type)
    wanted = name.strip().casefold()
    for choice in SAMPLERS.values():
        names = [choice.name.casefold(), *(alias.casefold() for alias in choice.aliases)]
        if wanted in names:
            return choice.name, schedule
        for joined in SCHEDULE_TYPES.values():
            endings = (f" {joined.label.casefold()}", f"_{joined.name}", SHORT_ENDINGS.get(joined.name, f"_{joined.name}"))
            if any(wanted == known + ending for known in names for ending in endings):
                if schedule != "Automatic":
                    return choice.name, schedule
                return choice.name, "Automatic" if joined.label == choice.default_schedule else joined.label
    raise BadRequest(f"sampler {name!r} is not known; choose one of: {', '.join(SAMPLERS)}")


def find_schedule_type(name: str) -> str:
    """The canonical label of a schedule type given by label or wire name, case ignored; "" means Automatic. Raises BadRequest."""
    wanted = name.strip().casefold()
    if not wanted:
        return "Automatic"
    for choice in SCHEDULE_TYPES.values():
        if wanted in (choice.label.casefold(), choice.name, *(alias.casefold() for alias in choice.aliases)):
            return choice.label
    raise BadRequest(f"schedule type {name!r} is not known; choose one of: {', '.join(SCHEDULE_TYPES)}")
