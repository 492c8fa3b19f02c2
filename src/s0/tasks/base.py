"""Tasks: problems, and a scorer for what models reply to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from s0.errors import ConfigError, DatasetError
from s0.tasks.code import require_runnable
from s0.tasks.problem import SPLITS, CodeProblem, MathProblem, Problem
from s0.tasks.sandbox import Sandbox, Verdict, shared
from s0.tasks.scoring import SCORINGS, Scorer, check_scoring

__all__ = ["SCORINGS", "SPLITS", "CodeProblem", "MathProblem", "Problem", "Scorer", "Task", "Verdict"]


@dataclass(frozen=True)
class Task:
    """A benchmark: problems in three disjoint splits and the way their completions are judged.

    Attributes:
        name: as given to `s0.tasks.load`.
        version: of prompts and judging rules; two scores compare only within one version.
        problems: in the order of the data.
        data_sha256: of the data as read, hexadecimal.
        stop: strings at which generation from the raw prompt may stop, since a completion is over there.
        max_new_tokens: enough for every problem; a reply that reaches it counts as truncated.
        scorer: judges.
        changes: what came with each version, the first one first.
        left_out: rows of the data that cannot be judged here: their ids and why, a line each. A score must name them.
        correctable: whether the rows are the user's own, who is asked to correct one that cannot be judged; in a
            published benchmark such a row costs its own verdicts.
        sandbox: for what must be executed; None for the process-wide one, on the strongest backend here.
    """

    name: str
    version: str
    problems: list[Problem]
    data_sha256: str
    stop: list[str]
    max_new_tokens: int
    scorer: Scorer
    changes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    correctable: bool = False
    sandbox: Sandbox | None = None

    def judged_in(self, sandbox: Sandbox | None) -> Task:
        """The same task, whose programs run in another sandbox."""
        return replace(self, sandbox=sandbox)

    def split(self, name: str) -> list[Problem]:
        """The problems of one split: "train" for examples, "select" for choices, "final" for the reported score.

        Raises:
            ConfigError: there is no split of that name.
        """
        if name not in SPLITS:
            raise ConfigError(f"expected one of the splits {', '.join(SPLITS)}; got {name!r}; correct the name")
        return [problem for problem in self.problems if problem.split == name]

    def require_split(self, name: str) -> list[Problem]:
        """The problems of a split, as `split` gives them; at least one.

        Raises:
            ConfigError: there is no split of that name.
            DatasetError: it has no problems; says how many the others have.
        """
        problems = self.split(name)
        if not problems:
            sizes = ", ".join(f"{len(self.split(each))} {each}" for each in SPLITS)
            raise DatasetError(
                f"expected problems of the {name} split of {self.name}, got none ({sizes}); add rows, give each a "
                "'split', or ask another split"
            )
        return problems

    def prompt(self, problem: Problem, chat: bool) -> str | list[dict[str, str]]:
        """What a model is shown: the problem's prompt as it is, or messages that go through the chat template."""
        return [{"role": "user", "content": self.scorer.request(problem)}] if chat else problem.prompt

    def format_of(self, problem: Problem, completion: str) -> str:
        """Which of the scorer's `formats` a completion has, as the standard scoring reads it."""
        return self.scorer.format_of(problem, completion)

    def verdicts(
        self,
        completions: Sequence[tuple[Problem, str]],
        scoring: str = "standard",
        jobs: int | None = None,
    ) -> list[Verdict]:
        """Judge completions.

        Args:
            completions: (problem, what the model replied), in any number and order.
            scoring: "standard" or "paper", see `s0.tasks.scoring`.
            jobs: completions at a time; None takes the number of processor cores.

        Returns:
            one verdict per completion, in order. Equal completions of one problem are judged once. A problem that
            cannot be judged, its test cannot be run, say, costs no other its verdict: see `Verdict.judged`.

        Raises:
            SandboxError: there is no sandbox on this machine or it broke; never a wrong answer.
            DatasetError: a problem is of another kind than the task's.
            ConfigError: there is no scoring of that name.
        """
        check_scoring(scoring)
        return self.scorer.verdicts(completions, scoring, jobs, self.sandbox)

    def require_runnable(self, problems: Sequence[Problem]) -> None:
        """Try the test of each problem in a user's own rows, before any answer to it is generated.

        Canonical solutions must pass. Where there is none a function that does nothing stands in, so a test is tried
        up to its first failing assert. Problems without tests are fine, and published benchmarks are let be: what
        cannot be judged there is counted apart.

        Args:
            problems: those that will be asked.

        Raises:
            DatasetError: a test cannot run, or a solution does not pass; names the problem and says what was raised.
            SandboxError: there is no sandbox on this machine or it broke.
        """
        tested = [problem for problem in problems if isinstance(problem, CodeProblem)]
        if tested and self.correctable:
            require_runnable(tested, self.sandbox or shared())
