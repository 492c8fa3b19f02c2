"""Problems, verdicts, tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s0.errors import ConfigError
from s0.tasks import scoring as scoring_rules
from s0.tasks.problem import SPLITS, Problem
from s0.tasks.sandbox import Program, Sandbox, Verdict, shared

__all__ = ["SPLITS", "Problem", "Task", "Verdict"]


@dataclass(frozen=True)
class Task:
    """A benchmark: problems in three disjoint splits and the way their completions are judged.

    Attributes:
        name: as given to `s0.tasks.load`.
        version: of the judging rules; two scores compare only within one version.
        problems: in the order of the data file.
        data_sha256: of the data as read, hexadecimal.
        stop: strings at which generation from the raw prompt may stop, since a completion is over there.
        max_new_tokens: enough for every problem; a reply that reaches it counts as truncated.
    """

    name: str
    version: str
    problems: list[Problem]
    data_sha256: str
    stop: list[str]
    max_new_tokens: int

    def split(self, name: str) -> list[Problem]:
        """The problems of one split: "train" for examples, "select" for choices, "final" for the reported score.

        Raises:
            ConfigError: there is no split of that name.
        """
        if name not in SPLITS:
            raise ConfigError(f"expected one of the splits {', '.join(SPLITS)}; got {name!r}; correct the name")
        return [problem for problem in self.problems if problem.split == name]

    def verdicts(
        self,
        completions: Sequence[tuple[Problem, str]],
        scoring: str = "standard",
        jobs: int | None = None,
        sandbox: Sandbox | None = None,
    ) -> list[Verdict]:
        """Execute completions against their problems' tests, in a sandbox.

        Args:
            completions: (problem, what the model replied), in any number and order.
            scoring: "standard" or "paper", see `s0.tasks.scoring`.
            jobs: programs at a time; None takes the number of processor cores.
            sandbox: None takes the process-wide one, on the strongest backend of the machine.

        Returns:
            one verdict per completion, in order. Equal programs are executed once.

        Raises:
            SandboxError: the sandbox broke or there is none on this machine; never a wrong answer.
            DatasetError: a problem's test cannot be run.
            ConfigError: there is no scoring of that name.
        """
        sources = [scoring_rules.program(problem, reply, scoring) for problem, reply in completions]
        programs = [
            Program(source, scoring_rules.prompt_with_stub(problem), problem.test, problem.entry_point)
            for (problem, _), source in zip(completions, sources, strict=True)
            if source is not None
        ]
        judged = iter((sandbox or shared()).judge(programs, jobs)) if programs else iter(())
        return [
            Verdict(False, "unparsable" if reply.strip() else "empty") if source is None else next(judged)
            for (_, reply), source in zip(completions, sources, strict=True)
        ]
