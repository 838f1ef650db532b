"""Which workers there are: processes on this machine, or actors of a Ray cluster."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import partial

from webui.core.errors import EngineError
from webui.core.settings import Settings
from webui.service.worker import Worker, WorkerProcess

ALONE = {  # no statistics, no figures for others to fetch; read when Ray is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # Ray's way to say: nothing listens beyond this machine


def worker_openers(settings: Settings, factory: str) -> Sequence[Callable[[], Worker]]:
    """A function for each worker that the settings ask for, which opens it. Raises EngineError where Ray is wanted and cannot be had."""
    if settings.ray is None:
        return [partial(WorkerProcess, factory, each) for each in settings.each_worker()]
    if importlib.util.find_spec("ray") is None:
        raise EngineError("--ray needs the package ray, which is not installed: pip install ray, or start without --ray")
    os.environ.update(ALONE | (LOOPBACK_ONLY if settings.ray == "local" else {}))
    from webui.service.ray_worker import ray_openers  # of all that Easel can do, only this needs Ray

    return ray_openers(settings, factory)
