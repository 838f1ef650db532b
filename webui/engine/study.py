"""Where a study looks into a run: the places at which it may stand, each empty here. Nothing of it is called between two steps."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from webui.core.request import GenerationRequest
from webui.engine.conditioning import Encoder, Scheduled
from webui.engine.denoiser import Denoise
from webui.engine.guidance import Network
from webui.engine.model import DiffusionModel
from webui.engine.schedules import NoiseSchedule, Plan


@dataclass(frozen=True)
class Asked:
    """What a pass encodes. prompt: without networks' tags; calls, first_pass: see `core.prompt_schedule.parse_prompt`."""

    encoder: Encoder
    prompt: str
    calls: int
    first_pass: int | None = None


class Study:
    """One that changes nothing, and costs a call per run; a kind of study overrides what it needs.

    The wrapping ones (`network`, `denoise`) give back a function of the same meaning; given back as it came, a run is as without a study.
    """

    def singles(self, request: GenerationRequest, numbers: range) -> list[GenerationRequest]:
        """What each picture of a batch is made of. numbers: of the pictures among all of the request."""
        return [request.single(number) for number in numbers]

    def conds(self, asked: Asked, made: tuple[Scheduled, ...]) -> tuple[Scheduled, ...]:
        """The conditioning of a pass's prompt in place of the one that was made."""
        return made

    def network(self, network: Network) -> Network:
        """Around the UNet, as guidance calls it."""
        return network

    def denoise(self, denoise: Denoise) -> Denoise:
        """Around all that the sampler calls."""
        return denoise

    def at_work(self, model: DiffusionModel, schedule: NoiseSchedule, plan: Plan) -> AbstractContextManager[None]:
        """Around one run of the sampler."""
        return nullcontext()


NO_STUDY = Study()
