"""The fine settings of prompts, guidance and the network: one table for limits, infotext, API names and preferences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from webui.core.chunks import CHUNK, COMMA_BACKTRACK
from webui.core.errors import BadRequest
from webui.core.key_values import Values
from webui.core.prompt import EMPHASIS

NOISE_SCHEDULES = ("Default", "Zero Terminal SNR")
SLOTTED = ("Token merging ratio", "Token merging ratio hr")  # what A1111 writes among the settings, before all options


@dataclass(frozen=True, kw_only=True)
class GuidanceOptions:
    """How prompts are weighted, when and how strongly the negative one pushes, and in what the network differs from its checkpoint's."""

    emphasis: str = "Original"
    rescale: float = 0.0
    skip_early: float = 0.0
    ngms: float = 0.0
    ngms_all_steps: bool = False
    skip_uncond: bool = False
    pad_conds: bool = False
    pad_conds_v0: bool = False
    old_timelines: bool = False
    token_merging: float = 0.0
    token_merging_hr: float = 0.0
    noise_schedule: str = NOISE_SCHEDULES[0]
    comma_backtrack: int = COMMA_BACKTRACK
    pag: float = 0.0
    freeu: bool = False
    freeu_b1: float = 1.01
    freeu_b2: float = 1.02
    freeu_s1: float = 0.99
    freeu_s2: float = 0.95
    freeu_plain: bool = False

    def for_second_pass(self) -> "GuidanceOptions":
        """As hires fix's second pass goes by them."""
        return replace(self, token_merging=self.token_merging_hr or self.token_merging)

    def validate(self) -> None:
        """Raise BadRequest, naming the value, the limit and the way out."""
        for option in GUIDANCE:
            value = getattr(self, option.field)
            if option.choices:
                if value not in option.choices:
                    raise BadRequest(f"{option.key} {value!r} is not known; choose one of: {', '.join(option.choices)}")
            elif isinstance(option.default, bool):
                if not isinstance(value, bool):
                    raise BadRequest(f"{option.key} {value!r} is neither True nor False: use one of them")
            elif type(value) not in option.kinds or not 0 <= value <= option.most:  # NaN fails too
                raise BadRequest(f"{option.key} {value!r} is out of range: use a {option.kind} from 0 to {option.most:g}")


@dataclass(frozen=True)
class GuidanceOption:
    """One field of GuidanceOptions. key: in the infotext; name: of the field's option, on the wire and among our preferences."""

    field: str
    key: str
    name: str
    sentence: str
    most: float = 0.0
    choices: tuple[str, ...] | None = None

    @property
    def default(self) -> str | float | bool:
        default: str | float | bool = DEFAULTS[self.field]
        return default

    @property
    def kinds(self) -> tuple[type, ...]:
        """What a number may be."""
        return (int,) if isinstance(self.default, int) else (int, float)

    @property
    def kind(self) -> str:
        return "number" if float in self.kinds else "whole number"


DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(GuidanceOptions)}
GUIDANCE: tuple[GuidanceOption, ...] = (
    GuidanceOption(
        "emphasis",
        "Emphasis",
        "emphasis",
        "What (word:1.2) does: Original restores the mean, No norm does not, Ignore drops the weights, None takes brackets as text.",
        choices=EMPHASIS,
    ),
    GuidanceOption("rescale", "CFG Rescale phi", "cfg_rescale", "How much of the contrast that the CFG scale adds is taken back.", 1),
    GuidanceOption("skip_early", "Skip Early CFG", "skip_early_cond", "First part of the steps that does without the negative prompt.", 1),
    GuidanceOption("ngms", "NGMS", "s_min_uncond", "Sigma below which every other step does without the negative prompt.", 15),
    GuidanceOption("ngms_all_steps", "NGMS all steps", "s_min_uncond_all", "Every step below that sigma does without it."),
    GuidanceOption(
        "skip_uncond",
        "Skip uncond at CFG 1",
        "skip_uncond_at_cfg_1",
        "At CFG scale 1, where it changes nothing but the last digits, do without the negative prompt: twice as fast.",
    ),
    GuidanceOption(
        "pad_conds",
        "Pad conds",
        "pad_cond_uncond",
        "Give the shorter of prompt and negative prompt empty chunks, so that one call serves both: faster, another picture.",
    ),
    GuidanceOption(
        "pad_conds_v0",
        "Pad conds v0",
        "pad_cond_uncond_v0",
        "As old versions did: repeat the negative prompt's last token, or cut it off, until it is as long as the prompt.",
    ),
    GuidanceOption(
        "old_timelines",
        "Old prompt editing timelines",
        "use_old_scheduling",
        "[a:b:n] as before hires passes counted on: n below 1 is a share of the steps, in both passes alike.",
    ),
    GuidanceOption(
        "token_merging",
        "Token merging ratio",
        "token_merging_ratio",
        "Part of the pixels that self-attention merges with others like them: faster, another picture.",
        0.9,
    ),
    GuidanceOption(
        "token_merging_hr",
        "Token merging ratio hr",
        "token_merging_ratio_hr",
        "The same in the second pass of hires fix; 0: as in the first.",
        0.9,
    ),
    GuidanceOption(
        "noise_schedule",
        "Noise Schedule",
        "sd_noise_schedule",
        "Zero Terminal SNR begins with pure noise, as checkpoints want that were trained so; those that say so have it anyway.",
        choices=NOISE_SCHEDULES,
    ),
    GuidanceOption(
        "comma_backtrack",
        "Comma padding backtrack",
        "comma_padding_backtrack",
        "A comma among so many last tokens of a full chunk of 75 moves what follows it into the next chunk; 0: none does.",
        CHUNK - 1,
    ),
    GuidanceOption(
        "pag",
        "PerturbedAttentionGuidance_scale",
        "pag_scale",
        "Perturbed attention guidance: how strongly pictures are pushed away from what the UNet makes without its sense for form; 0: off.",
        100,
    ),
    GuidanceOption("freeu", "freeu_enabled", "freeu_enabled", "FreeU: other weights for what the UNet's way up brings and what it skips."),
    GuidanceOption("freeu_b1", "freeu_b1", "freeu_b1", "FreeU: factor of what comes from below, in the deepest layers.", 2),
    GuidanceOption("freeu_b2", "freeu_b2", "freeu_b2", "FreeU: the same, in the layers of half their width.", 2),
    GuidanceOption("freeu_s1", "freeu_s1", "freeu_s1", "FreeU: factor of the coarse parts of what is skipped, in the deepest layers.", 4),
    GuidanceOption("freeu_s2", "freeu_s2", "freeu_s2", "FreeU: the same, in the layers of half their width.", 4),
    GuidanceOption(
        "freeu_plain",
        "freeu_plain",
        "freeu_plain",
        "FreeU as diffusers has it: plain factors, by the UNet's stages; off: as Forge has it, stronger where more is seen.",
    ),
)
PAG_SWITCH = "PerturbedAttentionGuidance_enabled"  # Forge's, which stands beside the scale


def guidance_items(options: GuidanceOptions | None) -> Iterator[tuple[str, str]]:
    """What stands in the infotext: all that is not the default."""
    for option in GUIDANCE:
        value = getattr(options, option.field, option.default)
        if value != option.default:
            yield option.key, value if isinstance(value, str) else repr(value)


def read_guidance(values: Values) -> GuidanceOptions:
    """What an infotext says; all keys are taken."""
    told: dict[str, Any] = {}
    values.text(PAG_SWITCH)
    for option in GUIDANCE:
        if option.choices:
            told[option.field] = values.choice(option.key, option.choices, str(option.default))
        elif isinstance(option.default, bool):
            told[option.field] = values.text(option.key) == "True"
        elif isinstance(option.default, int):
            told[option.field] = values.whole(option.key, option.default, 0, int(option.most))
        else:
            told[option.field] = values.number(option.key, float(option.default), 0, option.most)
    return GuidanceOptions(**told)


def preferred_guidance(preferences: Mapping[str, Any]) -> GuidanceOptions:
    """The options that preferences, or the wire's option names, ask for; what they leave out has its default."""
    return GuidanceOptions(**{option.field: preferences.get(option.name, option.default) for option in GUIDANCE})
