"""Training that survives an end of its process: the file it goes on from, and signals that wait for the right moment.

A checkpoint is one safetensors file. Its tensors are everything a training needs to go on as if nothing had happened;
its metadata holds

    s0_checkpoint   JSON: format_version; identity, which training it belongs to: its terms and origin; progress, what
                    is no tensor
    sha256          of the whole file, with zeros in place of this value

It is replaced, never changed, so at any moment there is one whole checkpoint, the last or the one before.
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from s0.errors import CheckpointError, ConfigError, StateMismatchError
from s0.files import remove_leftovers, write_bytes

FORMAT_VERSION = 1
_KEY = "s0_checkpoint"
_CHANGE_NO_RESULT = {
    "gradient_checkpointing"
}  # but by rounding: a training that memory is too small for goes on with it
_NO_DIGEST = "0" * 64
_ONE_REQUEST_S = 1.0  # launchers pass a Ctrl-C on that the terminal has already sent to all


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps what it needs to go on after a crash, a kill, Ctrl-C or SIGTERM.

    A training that finds the file goes on from it, exactly; one that has come to its end leaves it as the end is, for
    what was learned is not on disk yet: `remove` it when it is. One that breaks down removes it.

    Attributes:
        path: of the file; its folder is made if need be. One training at a time.
        every: steps between two writes; the first is before the first step.
        origin: how the trained tensors began, as JSON: a seed, what they were made by. Two trainings of the same terms,
            that is settings, data and base model, are one only where their origin is the same, too.
    """

    path: Path
    every: int = 10
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.every) is not int or self.every < 1:
            raise ConfigError(f"expected every to be a whole number of at least 1, got {self.every!r}")
        try:
            json.dumps(dict(self.origin), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"expected the origin of a checkpoint to be plain JSON values: {error}") from error

    def write(self, terms: Mapping[str, Any], progress: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Replace the file.

        Args:
            terms: of the training, as JSON: its settings, data and base model.
            progress: what is no tensor, as JSON.
            tensors: what training goes on from, by name; of any shape and device.

        Raises:
            CheckpointError: it cannot be written; the one before is still there, and nothing else.
        """
        content = {"format_version": FORMAT_VERSION, "identity": self._identity(terms), "progress": progress}
        copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        data = save(copies, {_KEY: json.dumps(content), "sha256": _NO_DIGEST})
        digest = hashlib.sha256(data).hexdigest()
        try:
            write_bytes(self.path, data.replace(_sealed(_NO_DIGEST), _sealed(digest), 1))
        except OSError as error:
            raise CheckpointError(
                f"expected to write the checkpoint {self.path} ({len(data)} bytes), but: {error}. The one written "
                "before, if any, is intact; make room or choose another path, and start again to go on from it"
            ) from error

    def read(self, terms: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Read what an interrupted training has left.

        Args:
            terms: as of `write`.

        Returns:
            its progress and tensors, or None where there is no file.

        Raises:
            StateMismatchError: no checkpoint of this version, or a damaged one.
            ConfigError: of another training; names what differs.
            CheckpointError: it cannot be read.
        """
        remove_leftovers(self.path)
        try:
            data = Path(self.path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CheckpointError(f"expected to read the checkpoint {self.path}, but: {error}") from error
        content, tensors = self._opened(data)
        differing = dict.fromkeys(_differences(content["identity"], self._identity(terms)))
        if differing:
            raise ConfigError(
                f"expected {self.path} to be a checkpoint of this training, but it is of another: "
                f"{'; '.join(differing)}. Train with the same settings, data and model to go on with that one, or "
                "choose another path or remove the file to start anew"
            )
        return content["progress"], tensors

    def _opened(self, data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            size = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
            content, digest = json.loads(metadata[_KEY]), metadata["sha256"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self.damaged_error("it is cut off, or no checkpoint at all") from error
        if hashlib.sha256(data.replace(_sealed(digest), _sealed(_NO_DIGEST), 1)).hexdigest() != digest:
            raise self.damaged_error("its checksum is wrong, so a part of it is lost or changed")
        if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
            raise self.damaged_error("it is of another version of s0-tuning; go on with that one")
        if not {"identity", "progress"} <= content.keys():
            raise self.damaged_error("it says too little")
        try:
            return content, load(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise self.damaged_error(f"its tensors cannot be read ({error})") from error

    def damaged_error(self, what: str) -> StateMismatchError:
        """The error for a file from which no training can go on; `what` says what is wrong with it."""
        return StateMismatchError(
            f"expected {self.path} to be a checkpoint of a training, but {what}. It is left as it is; remove it to "
            "start over"
        )

    def _identity(self, terms: Mapping[str, Any]) -> dict[str, Any]:
        """Which training it belongs to, as the file says it."""
        identity: dict[str, Any] = json.loads(json.dumps({**terms, "identity": dict(self.origin)}))
        return identity

    def remove(self) -> None:
        """Remove the file of a training whose result is safe. That is not to be lost for it, so this only warns."""
        try:
            Path(self.path).unlink(missing_ok=True)
        except OSError as error:
            warnings.warn(
                f"the checkpoint {self.path} of a finished training could not be removed: {error}", stacklevel=2
            )


def _sealed(digest: str) -> bytes:
    return f'"sha256":"{digest}"'.encode()


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        parts = [(before.get(key), now.get(key), f"{name}.{key}" if name else key) for key in keys]
        return list(chain.from_iterable(_differences(*part) for part in parts))
    are_lists = isinstance(before, list) and isinstance(now, list)
    if are_lists and len(before) == len(now):
        parts = [(a, b, f"{name}[{i}]") for i, (a, b) in enumerate(zip(before, now, strict=True))]
        return list(chain.from_iterable(_differences(*part) for part in parts))
    setting = name.rpartition(".")[2]  # several learners may share it
    return [] if before == now or setting in _CHANGE_NO_RESULT else [f"`{setting}` was {before!r:.60}, is {now!r:.60}"]


class Stopped(Exception):
    """The process was asked to end, and this is a good moment."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(str(signal_number))
        self.signal_number = signal_number


class Signals:
    """Ctrl-C and SIGTERM, kept back until the loop asks. A second one acts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._received_at = 0.0

    def check(self) -> None:
        """Let the training end here, if a signal asks for it.

        Raises:
            Stopped: there was a signal.
        """
        if self.received is not None:
            raise Stopped(self.received)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; Python calls this as the handler.

        Args:
            number: of the signal.
            frame: where the main thread is; not looked at.

        Raises:
            KeyboardInterrupt, SystemExit: it is the second request to end.
        """
        now = time.monotonic()
        if self.received is None:
            self.received, self._received_at = number, now
        elif now - self._received_at > _ONE_REQUEST_S:
            raise _ended_error(number)


@contextmanager
def signals_kept_back(wanted: bool) -> Iterator[Signals]:
    """Within this context Ctrl-C and SIGTERM wait for `Signals.check`; where they cannot, they act as before.

    They can in the main thread, and where the process does not ignore them.

    Raises:
        KeyboardInterrupt, SystemExit: at the end of the context, if there was a signal.
    """
    signals = Signals()
    before: dict[int, Any] = {}
    if wanted and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler not in (None, signal.SIG_IGN):  # None: set by another language, so not ours to put back
                before[number] = handler
                signal.signal(number, signals.receive)
    try:
        yield signals
    except Stopped as stopped:
        raise _ended_error(stopped.signal_number) from None
    finally:
        for handled, handler in before.items():
            signal.signal(handled, handler)
    if signals.received is not None:
        raise _ended_error(signals.received)


def _ended_error(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
