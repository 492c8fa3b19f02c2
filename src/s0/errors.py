"""The exception tree.

S0Error
├── ConfigError (ValueError)             a setting or argument that cannot work
│   └── GridNotDoneError                 a study wants the winner of a grid that has not come to its end
├── StateMismatchError (ValueError)      a state that does not belong to this model, or is damaged
├── UnsupportedModelError (TypeError)    a model without a usable recurrent state; lists the families
├── DatasetError (ValueError)            an example, problem or data file that cannot be used; names the row
├── CheckpointError (OSError)            a checkpoint that cannot be written or read: a full disk, a missing permission
├── SandboxError (RuntimeError)          the sandbox itself broke; never "the answer was wrong"
├── EngineError (RuntimeError)           a kernel or serving engine did something this library cannot follow
│   └── StandInError (AttributeError)    a mixer asked what stands in its cache's place for more than states
├── ExecutorError (RuntimeError)         a process or job that had a unit of a study to do was lost
└── ServingError (RuntimeError)          a request that a server does not take, or does not finish
    ├── UnknownStateError                it names a state that is not there
    ├── QueueFullError                   as many requests wait as may
    ├── StoppingError                    the server ends
    └── TimeLimitError                   it has taken too long

Messages say what was expected, what was got, and what to do. Every class keeps its built-in parent, so
`except ValueError` in existing code still works.
"""

from __future__ import annotations


class S0Error(Exception):
    """Root of every error this library raises on purpose."""


class ConfigError(S0Error, ValueError):
    """A setting or argument that cannot work."""


class GridNotDoneError(ConfigError):
    """A grid whose winner a study takes has not come to its end."""


class StateMismatchError(S0Error, ValueError):
    """A state that does not belong to this model, or a state file that is damaged."""


class UnsupportedModelError(S0Error, TypeError):
    """A model without a recurrent state that can be tuned."""


class DatasetError(S0Error, ValueError):
    """An example, problem or data file that cannot be used."""


class CheckpointError(S0Error, OSError):
    """A checkpoint that cannot be written or read: a full disk, a folder without permission."""


class SandboxError(S0Error, RuntimeError):
    """The sandbox itself failed, so there is no verdict. A wrong answer is never an error."""


class EngineError(S0Error, RuntimeError):
    """A kernel or serving engine behaves in a way this library cannot follow exactly."""


class ExecutorError(S0Error, RuntimeError):
    """A process or job that had a unit of a study to do was lost."""


class StandInError(EngineError, AttributeError):
    """A mixer, or a hook on it, asked for something of a cache that what a tuned layer puts in its place has not.

    Also an AttributeError, so that `hasattr` and `getattr` with a default get the answer they expect.
    """


class ServingError(S0Error, RuntimeError):
    """A request that a server does not take, or does not finish."""


class UnknownStateError(ServingError):
    """A request names a state that the server does not have."""


class QueueFullError(ServingError):
    """As many requests wait as may; later there is room again."""


class StoppingError(ServingError):
    """The server ends, and takes no more requests."""


class TimeLimitError(ServingError):
    """A request has taken longer than any may."""
