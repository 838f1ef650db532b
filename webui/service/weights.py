"""The weights that the workers hold in memory: of all of them at once."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from typing import Any

from webui.core.catalog import Catalog
from webui.core.model_orders import WeightsOrder
from webui.service.completion import complete_weights
from webui.service.supervisor import Supervisor


class Weights:
    """Orders to every worker. They go past the queue: each worker follows when its present job is done."""

    def __init__(self, supervisors: Sequence[Supervisor], catalog: Catalog, preferences: Callable[[], Mapping[str, Any]]):
        self._supervisors = supervisors
        self._catalog = catalog
        self._preferences = preferences

    def keep(self, order: WeightsOrder) -> None:
        """Return when every worker has followed. Raises BadRequest, MissingModel, and what went wrong with the first that could not."""
        order = complete_weights(order, self._catalog, self._preferences())
        answers = [supervisor.order(order) for supervisor in self._supervisors]
        wait(answers)
        for answer in answers:
            answer.result()
