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
    unipc_variant: str = "bh1"
    unipc_skip_type: str = "time_uniform"
    unipc_order: int = 3
    unipc_lower_order_final: bool = True

    def validate(self) -> None:
        """Raise BadRequest, naming the value, the limit and the way out."""
        for option in OPTIONS:
            option.check(getattr(self, option.field))
        if 0 < self.sigma_max <= self.sigma_min:
            raise BadRequest(f"Schedule min sigma {self.sigma_min} is not below Schedule max sigma {self.sigma_max}; lower it")


Value = float | int | bool | str


@dataclass(frozen=True)
class Option:
    """One field of SamplerOptions. key: in the infotext; name: of the field's option, on the wire and among our preferences."""

    field: str
    key: str
    name: str
    sentence: str
    least: float = 0.0
    most: float = 0.0
    choices: tuple[str, ...] = ()

    @property
    def default(self) -> Value:
        value: Value = DEFAULTS[self.field]
        return value

    def check(self, value: Any) -> None:
        """Raise BadRequest unless `value` is of the default's kind and within the limits."""
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise BadRequest(f"{self.key} {value!r} is neither True nor False: use one of them")
        elif isinstance(self.default, str):
            if value not in self.choices:
                raise BadRequest(f"{self.key} {value!r} is not known; choose one of: {', '.join(self.choices)}")
        else:
            kind, kinds = ("whole number", (int,)) if isinstance(self.default, int) else ("number", (int, float))
            right = isinstance(value, kinds) and not isinstance(value, bool)
            if not right or not self.least <= value <= self.most:  # NaN fails too
                raise BadRequest(f"{self.key} {value!r} is out of range: use a {kind} from {self.least:g} to {self.most:g}")

    def read(self, values: Values) -> Value:
        """What an infotext says, the default where it says nothing that can be used."""
        if isinstance(self.default, bool):
            return values.choice(self.key, ("True", "False"), str(self.default)) == "True"
        if isinstance(self.default, str):
            return values.choice(self.key, self.choices, self.default)
        if isinstance(self.default, int):
            return values.whole(self.key, self.default, int(self.least), int(self.most))
        return values.number(self.key, self.default, self.least, self.most)


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
    Option(
        "unipc_variant",
        "UniPC variant",
        "uni_pc_variant",
        "UniPC's B(h): h or e^h - 1; or none: weights that vary with the step.",
        choices=("bh1", "bh2", "vary_coeff"),
    ),
    Option(
        "unipc_skip_type",
        "UniPC skip type",
        "uni_pc_skip_type",
        "How UniPC lays its steps: even in time, in time's root or in log sigma.",
        choices=("time_uniform", "time_quadratic", "logSNR"),
    ),
    Option("unipc_order", "UniPC order", "uni_pc_order", "How many answers UniPC draws on.", 1, 9),
    Option(
        "unipc_lower_order_final",
        "UniPC lower order final",
        "uni_pc_lower_order_final",
        "Let UniPC's last steps draw on fewer.",
    ),
)


def option_items(options: SamplerOptions | None) -> Iterator[tuple[str, str]]:
    """What stands in the infotext, in the field's order: all that is not the default."""
    for option in OPTIONS:
        value = getattr(options, option.field, option.default)
        if value != option.default:
            is_whole = isinstance(value, float) and value == int(value)
            yield option.key, str(int(value) if is_whole else value)


def read_options(values: Values) -> SamplerOptions:
    """What an infotext says; all keys are taken."""
    told: dict[str, Any] = {option.field: option.read(values) for option in OPTIONS}
    return SamplerOptions(**told)


def preferred_options(preferences: Mapping[str, Any]) -> SamplerOptions:
    """The options that preferences ask for; what they leave out has its default."""
    return SamplerOptions(**{option.field: preferences.get(option.name, option.default) for option in OPTIONS})
