"""The names a request may use, as data: samplers, schedule types, resize modes, mask fills. The functions behind them are the engine's."""

from dataclasses import dataclass

from webui.core.errors import BadRequest


@dataclass(frozen=True)
class SamplerChoice:
    """One sampler as the field names it.

    default_schedule: what schedule type "Automatic" means for it (semantics: A1111 1.10).
    calls_per_step: network calls in one step; prompt schedules count calls.
    kind: "sigma" samplers step over noise levels; "timestep" samplers (DDIM, PLMS, UniPC) over training timesteps; "lcm".
    ancestral: whether it draws noise while it runs.
    """

    name: str
    aliases: tuple[str, ...] = ()
    default_schedule: str = "Uniform"
    calls_per_step: int = 1
    kind: str = "sigma"
    ancestral: bool = False


SAMPLERS: dict[str, SamplerChoice] = {
    choice.name: choice
    for choice in (
        SamplerChoice("DPM++ 2M", ("k_dpmpp_2m",), "Karras"),
        SamplerChoice("DPM++ SDE", ("k_dpmpp_sde",), "Karras", calls_per_step=2, ancestral=True),
        SamplerChoice("DPM++ 2M SDE", ("k_dpmpp_2m_sde",), "Exponential", ancestral=True),
        SamplerChoice("Euler a", ("k_euler_a", "k_euler_ancestral"), ancestral=True),
        SamplerChoice("Euler", ("k_euler",)),
        SamplerChoice("LMS", ("k_lms",)),
        SamplerChoice("Heun", ("k_heun",), calls_per_step=2),
        SamplerChoice("DDIM", ("ddim",), kind="timestep"),
        SamplerChoice("PLMS", ("plms",), kind="timestep"),
        SamplerChoice("UniPC", ("unipc",), kind="timestep"),
        SamplerChoice("LCM", ("lcm",), kind="lcm", ancestral=True),
    )
}


@dataclass(frozen=True)
class ScheduleChoice:
    """One schedule type: `label` is shown and written, `name` is the wire protocol's identifier."""

    label: str
    name: str


SCHEDULE_TYPES: dict[str, ScheduleChoice] = {
    choice.label: choice
    for choice in (
        ScheduleChoice("Automatic", "automatic"),
        ScheduleChoice("Uniform", "uniform"),
        ScheduleChoice("Karras", "karras"),
        ScheduleChoice("Exponential", "exponential"),
        ScheduleChoice("SGM Uniform", "sgm_uniform"),
    )
}

RESIZE_MODES = ("Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)")  # the index is the wire number
OUTPAINT_WAYS = ("Easel", "Outpainting mk2", "Poor man's outpainting")
MASKED_CONTENT = ("fill", "original", "latent noise", "latent nothing")  # the index is the wire number

TILINGS = ("Off", "Both", "Horizontal", "Vertical")  # along which axes a picture can be laid beside itself without a seam
LATENT_UPSCALERS = (  # of hires fix: the first pass's latents are stretched
    *("Latent", "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)"),
    *("Latent (nearest)", "Latent (nearest-exact)"),
)
PIXEL_UPSCALERS = ("None", "Lanczos", "Nearest")  # the picture is made larger
UPSCALERS = LATENT_UPSCALERS + PIXEL_UPSCALERS


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
            endings = (f" {joined.label.casefold()}", f"_{joined.name}", "_ka" if joined.name == "karras" else f"_{joined.name}")
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
        if wanted in (choice.label.casefold(), choice.name):
            return choice.label
    raise BadRequest(f"schedule type {name!r} is not known; choose one of: {', '.join(SCHEDULE_TYPES)}")
