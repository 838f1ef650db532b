"""An order to let go of all models in memory, or to load one."""

from collections.abc import Callable, Iterator

from webui.core.event import Event, Finished, Loading
from webui.core.model_orders import WeightsOrder


def keep_weights(order: WeightsOrder, *, forget: Callable[[], None], load: Callable[[str], object]) -> Iterator[Event]:
    """Carry out the order; yields what happens, Finished last. load: checkpoint's name -> its model. Raises MissingModel, BadModelFile."""
    order.validate()
    if order.action == "unload":
        forget()
    else:
        yield Loading(f"loading {order.checkpoint or 'the checkpoint'}")
        load(order.checkpoint)
    yield Finished()
