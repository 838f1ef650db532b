"""Where models run and in which number types, as one object; and how much memory there is."""

import os
import socket
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from webui.core.errors import BadRequest

GIB = 1 << 30


@dataclass(frozen=True)
class Device:
    """The device of one worker."""

    torch_device: torch.device
    dtype: torch.dtype  # of the UNet and the text encoders
    vae_dtype: torch.dtype

    @property
    def name(self) -> str:
        """For people: the processor's or the card's name."""
        if self.torch_device.type == "cuda":
            return torch.cuda.get_device_name(self.torch_device)
        return {"cpu": "CPU", "mps": "Apple GPU"}.get(self.torch_device.type, self.torch_device.type)

    def told(self) -> dict[str, Any]:
        """The device for people: {"device": its name, "host": whose it is, "pid": the process} and the figures of `memory`."""
        return {"device": self.name, "host": socket.gethostname(), "pid": os.getpid(), **self.memory()}

    def sharers(self, workers: int, cards: int = 0) -> int:
        """How many of this machine's `workers` live on this device; cards: over how many they are spread, 0: over all."""
        devices = (cards or torch.cuda.device_count()) if self.torch_device.type == "cuda" else 1
        return -(-workers // devices)

    def memory(self) -> dict[str, dict[str, Any]]:
        """Bytes in use, as /sdapi/v1/memory tells them: {"ram": {...}, "cuda": {...} or {"error": ...}}."""
        ram = psutil.virtual_memory()
        used = psutil.Process().memory_info().rss
        return {"ram": {"free": ram.available, "used": used, "total": ram.total}, "cuda": self._cuda_memory()}

    def _cuda_memory(self) -> dict[str, Any]:
        if self.torch_device.type != "cuda":
            return {"error": f"unavailable: pictures are made on the {self.name}"}
        free, total = torch.cuda.mem_get_info(self.torch_device)
        stats = torch.cuda.memory_stats(self.torch_device)

        def figures(name: str) -> dict[str, int]:
            return {when: stats.get(f"{name}.all.{when}", 0) for when in ("current", "peak")}

        return {
            "system": {"free": free, "used": total - free, "total": total},
            "active": figures("active_bytes"),
            "allocated": figures("allocated_bytes"),
            "reserved": figures("reserved_bytes"),
            "inactive": figures("inactive_split_bytes"),
            "events": {"retries": stats.get("num_alloc_retries", 0), "oom": stats.get("num_ooms", 0)},
        }


def share_cores(device: Device, workers: int) -> None:
    """Leave the other workers their part of the cores, where the CPU makes the pictures, unless OMP_NUM_THREADS says how many it has.

    The user may set that; Ray sets it to the cores that it gives an actor.
    """
    if device.torch_device.type == "cpu" and workers > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(torch.get_num_threads() // workers, 1))


def memory_sentence(device: torch.device) -> str:
    """How much there is at this moment, for an error's text."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{free / GIB:.1f} of the card's {total / GIB:.1f} GiB are free"
    ram = psutil.virtual_memory()
    return f"{ram.available / GIB:.1f} of {ram.total / GIB:.1f} GiB of main memory are free"


def safe_half() -> torch.dtype:
    """For parts that overflow in fp16: bf16 where the card computes in it, else fp32."""
    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32


def choose_device(
    use_cpu: bool = False, device_id: int | None = None, no_half: bool = False, no_half_vae: bool = False, worker: int = 0
) -> Device:
    """The best device at hand: a CUDA card in fp16, else Apple's GPU or the CPU in fp32, where half types are slower.

    device_id: which card, from 0; None: workers, counted from 0, take the cards in turn. no_half: fp32 everywhere.
    no_half_vae: fp32 for the VAE alone.
    """
    if use_cpu or not torch.cuda.is_available():
        if device_id is not None and not use_cpu:
            raise BadRequest(f"there is no CUDA card number {device_id}; start without --device-id, or install torch for CUDA")
        kind = "mps" if torch.backends.mps.is_available() and not use_cpu else "cpu"
        return Device(torch.device(kind), torch.float32, torch.float32)
    count = torch.cuda.device_count()
    if device_id is not None and not 0 <= device_id < count:
        raise BadRequest(f"there is no CUDA card number {device_id}; this machine has {count}, counted from 0")
    dtype = torch.float32 if no_half else torch.float16
    number = worker % count if device_id is None else device_id
    return Device(torch.device("cuda", number), dtype, torch.float32 if no_half_vae else dtype)
