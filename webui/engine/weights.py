"""An order to let go of all models in memory, or to load one."""

from collections.abc import Callable, Iterator

from webui.core.event import Event, Finished, Loading
from webui.core.model_orders import WeightsOrder


def keep_weights(order: WeightsOrder, *, forget: Callable[[], None], load: Callable[[str, str], object]) -> Iterator[Event]:
    """Carry out the order; yields what happens, Finished last.

    load: names of a checkpoint and of what stands in for its text encoders -> its model. Raises MissingModel, BadModelFile.
    """
    order.validate()
    if order.action == "unload":
        forget()
    else:
        yield Loading(f"loading {order.checkpoint or 'the checkpoint'}")
        load(order.checkpoint, order.text_encoder)
    yield Finished()
