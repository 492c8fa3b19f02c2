"""The options of `s0 study` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from s0_cli.options import STUDY, option

Records = Annotated[
    Path,
    option("--records", group=STUDY, help="Folder of the records of all studies, which share what they need alike."),
]
Quick = Annotated[
    bool,
    option(
        "--quick",
        group=STUDY,
        help="The same study in small, in seconds, to see that it runs; its records are kept apart.",
    ),
]
Jobs = Annotated[int, option("--jobs", "-j", group=STUDY, min=1, help="Units at a time, in processes of one thread.")]
Slurm = Annotated[
    bool,
    option("--slurm", group=STUDY, help="A job of SLURM for each unit instead; the file's table [slurm] says which."),
]
MethodComparison = Annotated[
    bool,
    option(
        "--method-comparison",
        group=STUDY,
        help="With --out: also each trained unit, as the tools in method_comparison of PEFT's repository read it.",
    ),
]
RetryFailed = Annotated[bool, option("--retry-failed", group=STUDY, help="Do again what failed before.")]
