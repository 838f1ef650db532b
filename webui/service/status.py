"""What the status line shows: devices with their memory, and how much there is to do. Asked by every page, worked out once for all."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from webui.service.queue import JobQueue
from webui.service.supervisor import Supervisor

PATIENCE = 2.0  # seconds that a worker may take to tell its memory
FRESH = 2.0  # seconds after which workers are asked again


@dataclass(frozen=True)
class DeviceStatus:
    """One worker's device. Bytes are those in use by anybody: of the card, or of the main memory for workers on the CPU."""

    name: str  # for people; "" before the worker has told
    host: str
    state: str  # see Supervisor.state
    busy: bool
    card: bool  # whether the memory is a card's
    used: int = 0
    total: int = 0  # 0: not known


@dataclass(frozen=True)
class Status:
    """The service at one moment."""

    devices: tuple[DeviceStatus, ...]
    running: int  # jobs of everybody
    waiting: int


class StatusBoard:
    """Tells the status; thread-safe."""

    def __init__(self, supervisors: Sequence[Supervisor], queue: JobQueue):
        self._supervisors = supervisors
        self._queue = queue
        self._lock = threading.Lock()
        self._asked = -FRESH  # monotonic seconds

    def now(self) -> Status:
        """States and numbers of jobs as they are; figures of memory as last told, for which each call asks if FRESH seconds have passed."""
        with self._lock:
            if time.monotonic() - self._asked >= FRESH:
                self._asked = time.monotonic()
                for supervisor in self._supervisors:
                    supervisor.ask()
        devices = tuple(_device(supervisor) for supervisor in self._supervisors)
        return Status(devices, sum(device.busy for device in devices), self._queue.count_waiting())

    def memory(self) -> dict[str, dict[str, Any]]:
        """{"ram": {free, used, total} in bytes, "cuda": what the first worker says, or {"error": why it says nothing}}.

        Where there are several workers, cuda["workers"] has what each of them says of its device, and its "state". Waits for their answers.
        """
        ram = psutil.virtual_memory()
        for supervisor in self._supervisors:
            supervisor.ask()
        told = [supervisor.answer(PATIENCE) for supervisor in self._supervisors]
        cuda = told[0].get("cuda") or {"error": "the worker has not told its device's memory"}
        if len(told) > 1:
            states = [supervisor.state for supervisor in self._supervisors]
            cuda = {**cuda, "workers": [{**each, "state": state} for each, state in zip(told, states, strict=True)]}
        return {"ram": {"free": ram.available, "used": ram.total - ram.available, "total": ram.total}, "cuda": cuda}


def _device(supervisor: Supervisor) -> DeviceStatus:
    told = supervisor.answer()
    state, busy = supervisor.state, supervisor.live is not None
    card = told.get("cuda", {}).get("system")
    if card:
        return DeviceStatus(told["device"], told["host"], state, busy, True, card["used"], card["total"])
    ram = told.get("ram", {"free": 0, "total": 0})
    return DeviceStatus(told.get("device", ""), told.get("host", ""), state, busy, False, ram["total"] - ram["free"], ram["total"])
