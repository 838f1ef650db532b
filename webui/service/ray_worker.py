"""Workers as actors of a Ray cluster: the words of worker.py, carried by calls to the actor and by the stream that it answers with."""

import json
import os
import queue
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import psutil
import ray
from ray.exceptions import RayError

from webui.core.errors import EaselError, EngineError
from webui.core.event import Failed
from webui.core.job_request import JobRequest
from webui.core.settings import Settings
from webui.service.inputs import InputStore, inputs_folder
from webui.service.worker import Ending, Message, Waker, Workshop

LOCAL = "local"  # the address of a cluster that is this machine alone, begun and ended with the server
OBJECT_STORE = 200 * 2**20  # bytes: pictures on their way; more is written to disk by Ray
NO_PROXY_THERE = "http://127.0.0.1:9"  # Ray's helpers ask for cloud services even with statistics off: this lets them reach none
HEARING = "hearing"  # the concurrency group of `hear`, beside the one of `live`
ANSWER = 5.0  # seconds for a cluster to take a connection
SHA256 = re.compile(r'"([0-9a-f]{64})"')


def ray_openers(settings: Settings, factory: str) -> list[Callable[[], "RayWorker"]]:
    """A function for each actor: as many as --workers says, else one for each GPU of the cluster, else one. Connects to the cluster.

    Raises EngineError where no cluster answers.
    """
    _connect(str(settings.ray), settings.workers or 1)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = 0 if settings.use_cpu else sum(int(node.get("GPU", 0)) for node in nodes)
    count = settings.workers or gpus or 1
    cpus = 1 if gpus else share([int(node.get("CPU", 0)) for node in nodes], count)
    return [partial(RayWorker, factory, each, min(gpus, 1), cpus) for each in replace(settings, workers=count).each_worker()]


def share(cores: Sequence[int], count: int) -> int:
    """The most cores that each of `count` actors can have, where the nodes have so many; at least 1."""
    return next((each for each in range(max(cores, default=1), 1, -1) if sum(node // each for node in cores) >= count), 1)


def _connect(address: str, workers: int) -> None:
    options: dict[str, Any] = {}
    if address == LOCAL:
        cores = max(psutil.cpu_count() or 1, workers)
        options = {"num_cpus": cores, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    try:
        if ":" in address:  # for Ray itself would wait for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
        with _offline():
            ray.init(address=address, namespace="easel", configure_logging=False, ignore_reinit_error=True, **options)
        ray.put(None)  # Ray makes its serializers at the first use, and not safely in the threads of several supervisors
    except (OSError, OverflowError, RayError, RuntimeError, ValueError) as error:
        sentence = f"no Ray cluster answers at {address!r} ({_sentence(error)}); start one with `ray start --head`, or give --ray alone"
        raise EngineError(sentence) from error


@contextmanager
def _offline() -> Iterator[None]:
    """Processes that are started within it find no way to other machines by HTTP."""
    names = {"http_proxy": NO_PROXY_THERE, "https_proxy": NO_PROXY_THERE, "no_proxy": "", "NO_PROXY": ""}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Station:
    """The actor: a Workshop, somewhere in the cluster."""

    def __init__(self, factory: str, settings: Settings, server: str, need: Mapping[str, int]):
        """server: id of the node that the server runs on; need: what each actor takes of its node, by the names of Ray's resources."""
        node_id = ray.get_runtime_context().get_node_id()
        node = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == node_id)
        room = min(int(node.get(name, 0)) // amount for name, amount in need.items() if amount)
        settings = replace(settings, workers=max(min(settings.workers or 1, room), 1))  # at most so many share this node
        self._elsewhere = node_id != server
        if self._elsewhere:  # the server's SQLite file is not to be opened over a network; folders are listed instead
            settings = replace(settings, database=settings.data_dir / "cache" / "no-index.sqlite3")
        self._factory = factory
        self._settings = settings
        self._outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._workshop = Workshop(self._tell)

    def live(self) -> Iterator[Message]:
        """Do jobs and give what is told; the first message is ("elsewhere", whether on another node than the server)."""
        yield "elsewhere", self._elsewhere
        threading.Thread(target=self._run, name="workshop", daemon=True).start()
        while (message := self._outbox.get()) is not None:
            yield message

    def hear(self, inputs: Mapping[str, bytes], word: str, what: Any, *rest: Any) -> None:
        """Take in one message; inputs: the pictures that its job names, by sha256, where this node may not have them."""
        store = InputStore(inputs_folder(self._settings.data_dir))
        try:
            for data in inputs.values():
                store.add(data)
        except EaselError as error:
            self._tell("event", what, Failed(str(error), error.status, type(error).__name__))
        else:
            self._workshop.hear(word, what, *rest)

    def _tell(self, *message: Any) -> None:
        self._outbox.put(message)

    def _run(self) -> None:
        try:
            self._workshop.run(self._factory, self._settings)
        finally:
            self._outbox.put(None)


class RayWorker:
    """A Worker that is an actor. It is waited for until the cluster has room for it; when it dies, it stays dead."""

    def __init__(self, factory: str, settings: Settings, gpus: int, cpus: int):
        """gpus, cpus: what the actor needs of its node."""
        self._inputs = InputStore(inputs_folder(settings.data_dir))
        self._elsewhere = False
        self._reason = "the Ray actor ended"
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._came = Waker()
        actor = ray.remote(concurrency_groups={HEARING: 1})(Station)
        options = {"num_gpus": gpus, "num_cpus": cpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        need = {"GPU": gpus, "CPU": cpus}
        self._actor = actor.options(**options).remote(factory, settings, ray.get_runtime_context().get_node_id(), need)
        self._stream = self._actor.live.options(num_returns="streaming").remote()
        threading.Thread(target=self._follow, name="easel-ray", daemon=True).start()

    def send(self, *message: Any) -> None:
        inputs = self._inputs_of(message[2]) if message[0] == "run" and self._elsewhere else {}
        with suppress(RayError):
            self._actor.hear.options(concurrency_group=HEARING).remote(inputs, *message)

    def receive(self, waker: Waker, timeout: float | None) -> Message | None:
        if self._messages.empty():
            found = wait([self._came.connection, waker.connection], timeout)
            if self._came.connection not in found:
                if found:
                    waker.clear()
                return None
        self._came.clear()
        try:
            message = self._messages.get_nowait()
        except queue.Empty:
            return None
        if message is None:
            raise EOFError
        return message

    def end(self) -> Ending:
        with suppress(RayError):
            ray.kill(self._actor)
        self._came.close()
        return Ending(self._reason, to_blame=True)

    def _follow(self) -> None:
        """Put what the actor tells where `receive` finds it, until there is no more."""
        try:
            for reference in self._stream:
                message: Message = ray.get(reference)
                if message[0] == "elsewhere":
                    self._elsewhere = message[1]
                    continue
                self._messages.put(message)
                self._came.set()
        except Exception as error:  # RayError when the actor died, others when this program ends
            self._reason = f"the Ray actor died: {_sentence(error)}"
        self._messages.put(None)
        self._came.set()

    def _inputs_of(self, request: JobRequest) -> dict[str, bytes]:
        """The input pictures that a request names, by sha256."""
        found = {}
        for sha256 in set(SHA256.findall(json.dumps(request.to_json()))):
            with suppress(EaselError, OSError):  # a model's hash, or a picture that is gone, which the job then tells
                found[sha256] = self._inputs.path(sha256).read_bytes()
        return found


def _sentence(error: Exception) -> str:
    """What went wrong, out of Ray's page of text."""
    because = re.search(r"because ((?:its|the actor's) [^.]*)\.", str(error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return because[1] if because else (lines[-1] if lines else type(error).__name__)[:500]
