"""How a command ends: where something goes wrong, with one line that says what to do, and a status that says what."""

from __future__ import annotations

import errno
import functools
import inspect
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import typer

from s0_cli.processes import is_speaker

Command = TypeVar("Command", bound=Callable[..., None])

FAILED, WRONG_USAGE = 1, 2
EXIT_STATUS = "Exit status: 0 done, 1 failed, 2 wrong usage or settings, 130 Ctrl-C, 143 SIGTERM."

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but for tabs and ends of lines
_REMEDIES = {
    errno.ENOSPC: "make room, or choose another place",
    errno.EDQUOT: "make room within your quota, or choose another place",
    errno.EACCES: "choose a place that you may read and write",
    errno.EPERM: "choose a place that you may read and write",
    errno.EROFS: "choose a place that can be written",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it that should be a folder is a file",
    errno.EISDIR: "name a file, not a folder",
    errno.EEXIST: "choose another name",
    errno.EADDRINUSE: "choose another --port, or end what listens there",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "check the path: its links lead in a circle",
    errno.EMFILE: "allow more open files (ulimit -n)",
}


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM, and what there is to say about it.

    Attributes:
        status: of the process, 130 or 143.
        kept: what of the work is on disk, and how it goes on.
    """

    def __init__(self, status: int, kept: str) -> None:
        super().__init__(kept)
        self.status, self.kept = status, kept


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops work as Ctrl-C does."""


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """Within this context, an interrupted command ends with a line of what `kept` says by then."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        status = _status(error)
        if status is None:
            raise
        raise Interrupted(status, kept()) from None


def same_command(*more: str, without: str = "") -> str:
    """What was typed, for typing it again: with `more`, and without one option."""
    return shlex.join(["s0", *(part for part in sys.argv[1:] if part != without), *more])


def s0_command(*parts: str | Path) -> str:
    """A command to type."""
    return shlex.join(["s0", *map(str, parts)])


def in_one_line(command: Command) -> Command:
    """The command, which ends with one line where anything goes wrong that it or the machine can say."""
    options = _options(command)

    @functools.wraps(command)
    def ended(*args: Any, **kwargs: Any) -> None:
        try:
            with _sigterm_raises():
                command(*args, **kwargs)
        except Interrupted as stop:
            _end(stop.status, f"interrupted: {stop.kept}")
        except (KeyboardInterrupt, SystemExit) as error:
            status = _status(error)
            if status is None:
                raise
            _end(status, f"interrupted; start again with: {same_command()}")
        except Exception as error:
            line = _line(error, options)
            if line is None:
                raise
            _end(WRONG_USAGE if isinstance(error, _known("ConfigError")) else FAILED, f"error: {line}")

    return ended  # type: ignore[return-value]


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _status(error: BaseException) -> int | None:
    """The status that an interruption ends with; None where `error` is none."""
    if isinstance(error, SystemExit):
        return 143 if error.code == 128 + signal.SIGTERM else None
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _end(status: int, line: str) -> NoReturn:
    if status <= WRONG_USAGE or is_speaker():  # all are interrupted together
        print(re.sub(r"\s*\n\s*", " ", line), file=sys.stderr)
    raise typer.Exit(status)


def put(text: str, end: str = "\n") -> None:
    """Print a result, or a part of one, by the first of several processes.

    What a model writes steers no terminal: there, control characters are shown as Python writes them.
    """
    if not is_speaker():
        return
    shown = _CONTROL.sub(lambda character: repr(character[0])[1:-1], text) if sys.stdout.isatty() else text
    try:
        print(shown, end=end, flush=True)
    except BrokenPipeError:
        # Whoever read it has had enough. Python would complain once more when it flushes stdout at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None


def _line(error: Exception, options: Mapping[str, str]) -> str | None:
    """What an error says, in the words of the command's options; None where it is a fault of ours."""
    if isinstance(error, _known("S0Error")):
        return in_options(str(error), options)
    if isinstance(error, OSError):
        return os_error_line(error)
    if isinstance(error, ImportError) and str(error).startswith("s0-tuning needs"):
        return str(error)
    return None


def _known(name: str) -> Any:
    """A class of errors of the library; nothing where it is not loaded, as it is not for help, which is instant."""
    return getattr(sys.modules.get("s0.errors"), name, ())


def os_error_line(error: OSError) -> str:
    """What the machine says, with what to do about it."""
    if error.errno is None or not error.strerror:
        return str(error)
    where = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    said = f"{error.strerror}: {where}" if where else error.strerror
    remedy = _REMEDIES.get(error.errno)
    return f"{said}; {remedy}" if remedy else said


def _options(command: Callable[..., None]) -> dict[str, str]:
    """The options of a command by the names of its parameters, which the library's arguments share."""
    parameters = inspect.signature(command).parameters.items()
    named = [name for name, parameter in parameters if "typer.Argument" not in str(parameter.annotation)]
    return {name: "--" + name.replace("_", "-") for name in named}


def in_options(text: str, options: Mapping[str, str]) -> str:
    """A message of the library's with the arguments that it marks (`data=PATH`) as options, where there are such.

    `data=PATH` becomes --data PATH, `normalize=True` --normalize, `patience=None` no --patience, `lr` --lr. What stands
    in no such marks, paths for example, is left alone.

    Args:
        text: the message.
        options: by the name of the argument.
    """

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in options:
            return match[0]
        if value in ("None", "False"):
            return f"no {options[name]}"
        return options[name] if value in (None, "True", "...") else f"{options[name]} {value}"

    return re.sub(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`", option, text)
