"""The recurrences whose state can be tuned, one file each: the equation and its source, and what its kernels need.

A new recurrence is one file here and its name below; a new family of models is a row in `s0.core.families`.
"""

from s0.core.recurrences.base import CURRENT, Kernel, KernelRequest, OffsetRequest, Recurrence
from s0.core.recurrences.gated_delta import GATED_DELTA_NET, KDA
from s0.core.recurrences.lightning import LIGHTNING_ATTENTION
from s0.core.recurrences.mamba1 import MAMBA1
from s0.core.recurrences.mamba2 import MAMBA2

RECURRENCES = (GATED_DELTA_NET, KDA, MAMBA2, MAMBA1, LIGHTNING_ATTENTION)

__all__ = [
    "CURRENT",
    "GATED_DELTA_NET",
    "KDA",
    "LIGHTNING_ATTENTION",
    "MAMBA1",
    "MAMBA2",
    "RECURRENCES",
    "Kernel",
    "KernelRequest",
    "OffsetRequest",
    "Recurrence",
]
