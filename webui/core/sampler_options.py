"""The fine settings of samplers, schedule types and noise: one table for limits, infotext, API names and preferences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.errors import BadRequest
from webui.core.key_values import Values

NOISE_SOURCES = ("CPU", "GPU", "NV")


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """Each counts only with the samplers and schedule types that know it; the others pass over it."""

    eta: float = 1.0
    eta_ddim: float = 0.0
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = 0.0
    s_noise: float = 1.0
    sigma_min: float = 0.0
    sigma_max: float = 0.0
    rho: float = 0.0
    beta_alpha: float = 0.6
    beta_beta: float = 0.6
    sgm_noise_multiplier: bool = False
    discard_penultimate_sigma: bool = False
    ensd: int = 0

    def validate(self) -> None:
        """Raise BadRequest, naming the value, the limit and the way out."""
        for option in OPTIONS:
            value = getattr(self, option.field)
            if isinstance(option.default, bool):
                if not isinstance(value, bool):
                    raise BadRequest(f"{option.key} {value!r} is neither True nor False: use one of them")
                continue
            right = isinstance(value, int if isinstance(option.default, int) else (int, float)) and not isinstance(value, bool)
            if not right or not option.least <= value <= option.most:  # NaN fails too
                kind = "whole number" if isinstance(option.default, int) else "number"
                raise BadRequest(f"{option.key} {value!r} is out of range: use a {kind} from {option.least:g} to {option.most:g}")
        if 0 < self.sigma_max <= self.sigma_min:
            raise BadRequest(f"Schedule min sigma {self.sigma_min} is not below Schedule max sigma {self.sigma_max}; lower it")


@dataclass(frozen=True)
class Option:
    """One field of SamplerOptions. key: in the infotext; name: of the field's option, on the wire and among our preferences."""

    field: str
    key: str
    name: str
    sentence: str
    least: float = 0.0
    most: float = 0.0

    @property
    def default(self) -> float | int | bool:
        value: float | int | bool = DEFAULTS[self.field]
        return value


DEFAULTS: dict[str, Any] = vars(SamplerOptions())
OPTIONS: tuple[Option, ...] = (
    Option("eta", "Eta", "eta_ancestral", "Part of the noise that samplers with noise renew at each step.", 0, 10),
    Option("eta_ddim", "Eta DDIM", "eta_ddim", "The same for DDIM and DDIM CFG++; 0 renews none.", 0, 10),
    Option("s_churn", "Sigma churn", "s_churn", "Noise put on before each step of Euler, Heun and DPM2, in all.", 0, 1000),
    Option("s_tmin", "Sigma tmin", "s_tmin", "Sigma below which none is put on.", 0, 10_000),
    Option("s_tmax", "Sigma tmax", "s_tmax", "Sigma above which none is put on; 0: no limit.", 0, 10_000),
    Option("s_noise", "Sigma noise", "s_noise", "Strength of the noise that is put on or renewed.", 0, 10),
    Option("sigma_min", "Schedule min sigma", "sigma_min", "Lowest sigma of schedule types; 0: the checkpoint's.", 0, 10_000),
    Option("sigma_max", "Schedule max sigma", "sigma_max", "Highest sigma of schedule types; 0: the checkpoint's.", 0, 10_000),
    Option("rho", "Schedule rho", "rho", "Bend of Karras and Polyexponential; 0: 7 and 1.", 0, 100),
    Option("beta_alpha", "Beta schedule alpha", "beta_dist_alpha", "Alpha of the schedule type Beta.", 0.01, 100),
    Option("beta_beta", "Beta schedule beta", "beta_dist_beta", "Beta of the schedule type Beta.", 0.01, 100),
    Option(
        "sgm_noise_multiplier", "SGM noise multiplier", "sgm_noise_multiplier", "Begin with the noise of SDXL's own code, a bit stronger."
    ),
    Option(
        "discard_penultimate_sigma",
        "Discard penultimate sigma",
        "always_discard_next_to_last_sigma",
        "Lay one step more and leave the last but one out, with every sampler.",
    ),
    Option("ensd", "ENSD", "eta_noise_seed_delta", "Added to the seed of noise that is drawn after the first.", -(2**32), 2**32),
)


def option_items(options: SamplerOptions | None) -> Iterator[tuple[str, str]]:
    """What stands in the infotext, in the field's order: all that is not the default."""
    for option in OPTIONS:
        value = getattr(options, option.field, option.default)
        if value != option.default:
            yield option.key, str(int(value)) if not isinstance(value, bool) and value == int(value) else repr(value)


def read_options(values: Values) -> SamplerOptions:
    """What an infotext says; all keys are taken."""
    told: dict[str, Any] = {}
    for option in OPTIONS:
        if isinstance(option.default, bool):
            told[option.field] = values.text(option.key) == "True"
        elif isinstance(option.default, int):
            told[option.field] = values.whole(option.key, option.default, int(option.least), int(option.most))
        else:
            told[option.field] = values.number(option.key, option.default, option.least, option.most)
    return SamplerOptions(**told)


def preferred_options(preferences: Mapping[str, Any]) -> SamplerOptions:
    """The options that preferences ask for; what they leave out has its default."""
    return SamplerOptions(**{option.field: preferences.get(option.name, option.default) for option in OPTIONS})
