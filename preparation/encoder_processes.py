"""Encoder processes: one for each GPU, which encodes the clips of all worker processes.

Worker processes decode, track and crop on the CPU. Their encoders are proxies that send frames and sound over a local
connection. An encoder process takes what waits from all connections and joins frames of several clips to one batch.
Each worker has at most ``AHEAD`` pieces under way, which bounds the memory of the queue.

An encoder process that ends is started again. Clips that it was working on are tried once more. An error in it is
raised in the worker, so one that is out of memory ends the run.

Shapes: F frames, H x W crop, C latent channels, h x w latent size.
"""

from __future__ import annotations

import inspect
import os
import pickle
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError, connection, get_context
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from configs.preparation import PrepareConfig
from configs.registries import ENCODERS
from encoders.factory import build_landmark_detector, build_motion_encoder
from encoders.protocols import FaceTrack, Identity
from preparation.encoders import Encoders, encode_latents
from preparation.interrupts import block_sigint
from runtime.devices import DeviceError
from runtime.ending import end_with_parent
from runtime.errors import UserError, first_line
from runtime.registry import take, taken

PIECE = 16  # frames sent at once to a GPU; a whole clip to the CPU, so that its batches are those of one process
AHEAD = 2  # pieces of a worker under way
BATCH = 32  # frames of several clips encoded together
START_SECONDS = 300.0  # until an encoder process has been started again
MOST_DEATHS = 10  # of one encoder process, after which the run ends


class EncoderDied(Exception):
    """The encoder process ended while it worked for a clip."""


class EncoderProcessError(UserError):
    """Raised if an encoder process ends again and again."""


class EncoderUse(NamedTuple):
    """What an encoder process has done: device, encoded frames, seconds of work, and times it was started again."""

    device: str
    frames: int
    busy: float
    deaths: int


@dataclass(frozen=True)
class EncoderPlace:
    """Address of an encoder process, its key, and its device."""

    address: str
    key: bytes
    device: str


def encoder_devices(wanted: Sequence[str], device: str) -> list[str]:
    """Devices that get an encoder process; empty if each worker process encodes its own clips.

    Args:
        wanted: ``devices`` of the configuration; empty for all GPUs.
        device: Device of the encoders: cpu, cuda or mps.

    Raises:
        DeviceError: If there is no such GPU.
    """
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if missing := [name for name in wanted if name.startswith("cuda") and name not in (*gpus, *["cuda"][: len(gpus)])]:
        raise DeviceError(f"devices: PyTorch finds no {missing[0]} here, only {', '.join(gpus) or 'the CPU'}")
    if wanted or device == "cpu":
        return list(wanted)
    return gpus if device == "cuda" else [device]


class EncoderProcesses:
    """Encoder processes of a run, which are kept alive; a context manager.

    Args:
        config: Configuration of the run.
        devices: Device of each process.
    """

    def __init__(self, config: PrepareConfig, devices: Sequence[str]) -> None:
        key = os.urandom(16)
        self.places = [EncoderPlace(_new_address(), key, device) for device in devices]
        self._config = config
        self._deaths = [0] * len(devices)
        self._exit_codes: list[int | None] = [None] * len(devices)
        self._ends = threading.Event()
        self._processes = [self._started(place) for place in self.places]
        self._watch = threading.Thread(target=self._keep_alive, daemon=True, name="encoders")
        self._watch.start()

    def __enter__(self) -> EncoderProcesses:
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._watch.join()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()

    def check(self) -> None:
        """Raises an error if a process has ended too often.

        Raises:
            EncoderProcessError: If so; names its device and exit code.
        """
        for place, deaths, code in zip(self.places, self._deaths, self._exit_codes, strict=True):
            if deaths > MOST_DEATHS:
                raise EncoderProcessError(
                    f"the encoder process of {place.device} ended {deaths} times, the last time with exit code {code} "
                    "(-9: memory was short); free memory, or use other devices=, and run the same command again"
                )

    def uses(self) -> list[EncoderUse]:
        """What each process has done since it was last started."""
        found = []
        for place, deaths in zip(self.places, self._deaths, strict=True):
            frames, busy = 0, 0.0
            with suppress(EncoderDied):
                frames, busy = _Link(place).ask("use")
            found.append(EncoderUse(place.device, frames, busy, deaths))
        return found

    def _started(self, place: EncoderPlace) -> BaseProcess:
        context = get_context("spawn")  # CUDA does not work in a forked process
        process = context.Process(target=_serve, args=(place, self._config, taken()), daemon=True)
        with block_sigint():
            process.start()
        return process

    def _keep_alive(self) -> None:
        while not self._ends.is_set():
            connection.wait([process.sentinel for process in self._processes], timeout=0.2)
            for number, process in enumerate(self._processes):
                if not process.is_alive() and not self._ends.is_set() and self._deaths[number] <= MOST_DEATHS:
                    self._exit_codes[number] = process.exitcode
                    self._deaths[number] += 1
                    self._processes[number] = self._started(self.places[number])


class _Link:
    """Connection of a worker process to an encoder process."""

    def __init__(self, place: EncoderPlace) -> None:
        self.place = place
        self._connection = _connect(place)

    def send(self, *request: Any) -> None:
        try:
            self._connection.send(request)
        except OSError as error:
            raise EncoderDied(str(error)) from error

    def receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise EncoderDied(str(error)) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def ask(self, *request: Any) -> Any:
        self.send(*request)
        return self.receive()

    def has_ended(self) -> bool:
        """Whether the process has closed the connection; no answer is expected on it."""
        try:
            return self._connection.poll(0)
        except OSError:
            return True


def _connect(place: EncoderPlace) -> connection.Connection[Any, Any]:
    """Connects to an encoder process, which may be starting."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return connection.Client(place.address, authkey=place.key)
        except (OSError, EOFError) as error:
            if time.monotonic() > end:
                raise EncoderDied(f"no encoder process of {place.device} answers") from error
            time.sleep(0.05)


class RemoteEncoders:
    """The encoders of a worker process: those with a network are proxies of an encoder process.

    Clips go to the encoder processes in turn.

    Args:
        config: Configuration of the run.
        places: Encoder processes.
    """

    def __init__(self, config: PrepareConfig, places: Sequence[EncoderPlace]) -> None:
        self._places = places
        self._turn = os.getpid()
        self._links: dict[str, _Link] = {}
        options = config.encoders
        landmarks = build_landmark_detector(options.landmarks.name, **options.landmarks.options)
        sizes = self.run("describe")
        motion: Any = _RemoteMotion(self, sizes["motion"])
        if not has_network(options.motion.name):
            motion = build_motion_encoder(options.motion.name, **options.motion.options)
        self.encoders = Encoders(
            landmarks, _RemoteAudio(self, sizes["audio"]), motion, _RemoteCodec(self, sizes["codec"])
        )

    def next_clip(self) -> Encoders:
        """Chooses the encoder process of a new clip, and returns the encoders."""
        self._turn += 1
        self._links = {address: link for address, link in self._links.items() if not link.has_ended()}
        return self.encoders

    def _link(self) -> _Link:
        place = self._places[self._turn % len(self._places)]
        if place.address not in self._links:
            self._links[place.address] = _Link(place)
        return self._links[place.address]

    def run(self, *request: Any) -> Any:
        """Sends a request to the encoder process of this clip and returns the answer.

        Raises:
            EncoderDied: If the process ends.
            Exception: Any error in it.
        """
        with self._kept() as link:
            return link.ask(*request)

    @contextmanager
    def _kept(self) -> Iterator[_Link]:
        """Connection of this clip, which is closed after an error: answers to an abandoned clip may wait on it."""
        link = self._link()
        try:
            yield link
        except BaseException:
            self._links.pop(link.place.address, None)
            raise

    def encode(self, frames: Tensor, bfloat16: bool) -> Tensor:
        """Encodes (F, 3, H, W) uint8 frames in pieces."""
        latents = []
        with self._kept() as link:
            pieces = frames.split(len(frames) if link.place.device == "cpu" else PIECE)
            for number, piece in enumerate(pieces):
                # With the channels last, as they are in memory.
                link.send("codec", piece.permute(0, 2, 3, 1).contiguous().numpy(), bfloat16)
                if number >= AHEAD - 1:
                    latents.append(link.receive())
            while len(latents) < len(pieces):
                latents.append(link.receive())
        return torch.from_numpy(np.concatenate(latents))


class _RemoteAudio:
    def __init__(self, remote: RemoteEncoders, sizes: dict[str, Any]) -> None:
        self._remote = remote
        self.identity: Identity = sizes["identity"]
        self.layers: int = sizes["layers"]
        self.width: int = sizes["width"]

    def __call__(self, samples: Tensor) -> Tensor:
        return torch.from_numpy(self._remote.run("audio", samples.numpy()))


class _RemoteMotion:
    def __init__(self, remote: RemoteEncoders, sizes: dict[str, Any]) -> None:
        self._remote = remote
        self.identity: Identity = sizes["identity"]
        self.lip_width: int = sizes["lip_width"]
        self.expression_width: int = sizes["expression_width"]

    def __call__(self, frames: np.ndarray, track: FaceTrack) -> tuple[Tensor, Tensor]:
        lip, expression = self._remote.run("motion", frames, track)
        return torch.from_numpy(lip), torch.from_numpy(expression)


class _RemoteCodec:
    def __init__(self, remote: RemoteEncoders, sizes: dict[str, Any]) -> None:
        self._remote = remote
        self.identity: Identity = sizes["identity"]
        self.channels: int = sizes["channels"]
        self.downscale: int = sizes["downscale"]
        self.scale: float = sizes["scale"]

    def encode(self, frames: Tensor) -> Tensor:
        return self._remote.encode(frames, bfloat16=False)

    def encode_bfloat16(self, frames: Tensor) -> Tensor:
        return self._remote.encode(frames, bfloat16=True)

    def decode(self, latents: Tensor) -> Tensor:
        raise NotImplementedError("preparation decodes no latents")

    def decode_stream(self, latents: Iterable[Tensor], total: int, at_once: int | None = None) -> Iterator[Tensor]:
        raise NotImplementedError("preparation decodes no latents")


def has_network(motion: str) -> bool:
    """Whether a motion encoder runs on a device."""
    return "device" in inspect.signature(ENCODERS["motion"].get(motion, "encoders.motion.name")).parameters


def _new_address() -> str:
    address: str = connection.arbitrary_address(connection.default_family)  # type: ignore[attr-defined]
    return address


class _Request(NamedTuple):
    link: connection.Connection[Any, Any]
    kind: str
    payload: tuple[Any, ...]


def _serve(place: EncoderPlace, config: PrepareConfig, plugins: tuple[tuple[str, str], ...]) -> None:
    """Runs an encoder process until its parent ends."""
    end_with_parent()
    take(plugins)
    if place.device == "cpu":
        torch.set_num_threads(1)  # as in worker processes, so that the results are theirs
        torch.use_deterministic_algorithms(True, warn_only=True)
    if place.device.startswith("cuda"):
        torch.cuda.set_device(place.device)
    with suppress(OSError):  # the socket of a process that was killed
        os.unlink(place.address)
    requests: queue.Queue[_Request] = queue.Queue()
    listener = connection.Listener(place.address, backlog=128, authkey=place.key)
    threading.Thread(target=_accept, args=(listener, requests), daemon=True).start()
    EncoderWork(config, place.device).run(requests)


def _accept(listener: connection.Listener, requests: queue.Queue[_Request]) -> None:
    while True:
        with suppress(OSError, EOFError, AuthenticationError):
            link = listener.accept()
            threading.Thread(target=_listen, args=(link, requests), daemon=True).start()


def _listen(link: connection.Connection[Any, Any], requests: queue.Queue[_Request]) -> None:
    with suppress(EOFError, OSError):
        while True:
            kind, *payload = link.recv()
            requests.put(_Request(link, kind, tuple(payload)))


class EncoderWork:
    """Work of an encoder process.

    Args:
        config: Configuration of the run.
        device: Device of the encoders.
    """

    def __init__(self, config: PrepareConfig, device: str) -> None:
        self._config = config
        self._device = device
        self._built: Encoders | None = None
        self._later: list[_Request] = []
        self._frames, self._busy = 0, 0.0

    def run(self, requests: queue.Queue[_Request]) -> None:
        """Answers requests without end."""
        while True:
            together = self._next(requests)
            start = time.perf_counter()
            try:
                answers: Sequence[Any] = self._answers(together)
            except (Exception, MemoryError) as error:
                if type(error).__name__ == "AcceleratorError":  # the GPU cannot be used by this process any more
                    os._exit(1)
                answers = [_portable(error)] * len(together)
            self._busy += time.perf_counter() - start
            for request, answer in zip(together, answers, strict=True):
                with suppress(OSError):  # of a worker that was ended
                    request.link.send(answer)

    def _next(self, requests: queue.Queue[_Request]) -> list[_Request]:
        """The next request; on a GPU, with further frames of the same size that wait."""
        first = self._later.pop(0) if self._later else requests.get()
        if first.kind != "codec" or self._device == "cpu":
            return [first]
        with suppress(queue.Empty):
            while True:
                self._later.append(requests.get_nowait())
        return joined_requests(first, self._later)

    def _answers(self, together: Sequence[_Request]) -> Sequence[Any]:
        kind, payload = together[0].kind, together[0].payload
        if kind == "use":
            return [(self._frames, self._busy)]
        encoders = self._encoders()
        if kind == "describe":
            return [_described(encoders)]
        if kind == "audio":
            return [encoders.audio(torch.from_numpy(payload[0])).numpy()]
        if kind == "motion":
            lip, expression = encoders.motion(*payload)
            return [(lip.numpy(), expression.numpy())]
        frames = np.concatenate([request.payload[0] for request in together]) if len(together) > 1 else payload[0]
        latents = encode_latents(encoders.codec, torch.from_numpy(frames).permute(0, 3, 1, 2), payload[1])
        self._frames += len(frames)
        return [part.numpy() for part in latents.split([len(request.payload[0]) for request in together])]

    def _encoders(self) -> Encoders:
        if self._built is None:
            self._built = Encoders.build(self._config.encoders, self._device)
        return self._built


def joined_requests(first: _Request, waiting: list[_Request]) -> list[_Request]:
    """Takes requests out of ``waiting`` whose frames are encoded together with those of ``first``."""
    together, frames = [first], len(first.payload[0])
    for request in list(waiting):
        same = request.kind == "codec" and request.payload[1] == first.payload[1]
        if same and request.payload[0].shape[1:] == first.payload[0].shape[1:]:
            if frames + len(request.payload[0]) > BATCH:
                break
            waiting.remove(request)
            together.append(request)
            frames += len(request.payload[0])
    return together


def _described(encoders: Encoders) -> dict[str, dict[str, Any]]:
    audio, motion, codec = encoders.audio, encoders.motion, encoders.codec
    return {
        "audio": {"identity": audio.identity, "layers": audio.layers, "width": audio.width},
        "motion": {
            "identity": motion.identity,
            "lip_width": motion.lip_width,
            "expression_width": motion.expression_width,
        },
        "codec": {
            "identity": codec.identity,
            "channels": codec.channels,
            "downscale": codec.downscale,
            "scale": codec.scale,
        },
    }


def _portable(error: BaseException) -> BaseException:
    """An error that can be sent to another process."""
    if isinstance(error, torch.OutOfMemoryError):
        return MemoryError(first_line(error))
    if isinstance(error, UserError | MemoryError | ValueError):
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")
