"""Running untrusted programs: `Sandbox().judge([Program(...)]) -> [Verdict(...)]`.

    your process  --- job --->  checker process  --- arguments --->  candidate process
                  <- verdict --                  <----- data -------

Checker and candidate are forked from two fork servers in two jails. The verdict travels on a connection that exists
in the checker's jail only; all the candidate holds is its connection to the checker, on which only data passes. What
the test gets compares as it would in one process (`guest/codec`), and what is no data stays away (`guest/standin`).

Files: `sandbox` (the public class), `backends` (choosing a jail), `cell` (one checker and one candidate server),
`launch`, `readable_paths` and `seatbelt` (starting a server), `guest/` (what runs inside). README.md: what is kept from
what.
"""

from s0.tasks.sandbox.backends import BACKENDS, UNSAFE
from s0.tasks.sandbox.launch import Limits
from s0.tasks.sandbox.programs import CANNOT_RUN, NOT_JUDGED, Program, Verdict
from s0.tasks.sandbox.sandbox import Sandbox, shared

__all__ = ["BACKENDS", "CANNOT_RUN", "NOT_JUDGED", "UNSAFE", "Limits", "Program", "Sandbox", "Verdict", "shared"]
