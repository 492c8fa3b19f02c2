"""Other judges, each with its own code: a job per line in, an answer per line out, both JSON.

    python benchmarks/peers.py JUDGE

Runs in an environment of its own (`judges.txt`); `judges.py` starts it and says what is compared. A judge of answers is
given {"right", "reply"} and says {"passed"}. A judge of programs is given {"prompt", "entry_point", "reply"} and says
{"source"}, what it would execute; EvalPlus executes it itself where it is given "checked" as well: {"dataset",
"reference", "inputs", "atol"}, where inputs are a list or source that binds one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Judge = Callable[[Job], Job]

UNUSED = {
    "datasets": {"load_dataset": None, "Dataset": None},
    "wget": {},
    "sacrebleu": {},
    "evaluate": {"load": lambda name: types.SimpleNamespace(compute=lambda **_: None)},
}
"""Modules that the judges import at the top and need for other work: for loading data, for other metrics, and for
executing programs unprotected, which is not done here. They stand in empty."""


def math_verify(job: Job) -> Job:
    from math_verify import parse, verify

    return {"passed": bool(verify(parse(f"${job['right']}$"), parse(job["reply"])))}


def lm_eval_minerva_math() -> Judge:
    rules = task_module("minerva_math")
    until = settings("minerva_math", "minerva_math_algebra")["generation_kwargs"]["until"]
    rules.parse_latex("1")  # loads its grammar, which is no part of a comparison and of the seconds it may take

    def judge(job: Job) -> Job:
        answer = rules.normalize_final_answer(rules.get_unnormalized_answer(cut(job["reply"], until)))
        return {"passed": bool(rules.is_equiv(answer, rules.normalize_final_answer(job["right"])))}

    return judge


def lm_eval_hendrycks_math() -> Judge:
    rules = task_module("hendrycks_math")

    def judge(job: Job) -> Job:
        solution = {"solution": f"\\boxed{{{job['right']}}}"}
        return {"passed": bool(rules.process_results(solution, [job["reply"]])["exact_match"])}

    return judge


def lm_eval_gsm8k(name: str) -> Judge:
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    task = settings("gsm8k", "gsm8k")
    (steps,) = [entry["filter"] for entry in task["filter_list"] if entry["name"] == name]
    pattern = RegexFilter(**{key: value for key, value in steps[0].items() if key != "function"})
    rules = {key: task["metric_list"][0][key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}

    def judge(job: Job) -> Job:
        reply = cut(job["reply"], task["generation_kwargs"]["until"])
        answers = pattern.apply([[reply]], [{}])[0]
        right = [f"#### {job['right']}"]
        return {"passed": bool(exact_match_hf_evaluate(answers, right, **rules)["exact_match"] == 1)}

    return judge


def lm_eval_humaneval(filter_name: str) -> Judge:
    build = getattr(task_module("humaneval"), filter_name)
    until = settings("humaneval", "humaneval")["generation_kwargs"]["until"]
    return lambda job: {"source": build([[cut(job["reply"], until)]], [job])[0][0]}


def lm_eval_mbpp_instruct() -> Judge:
    build = task_module("mbpp").build_predictions
    return lambda job: {"source": build([[job["reply"]]], [job])[0][0]}


def evalplus(after_prompt: bool) -> Judge:
    from evalplus.sanitize import sanitize

    def judge(job: Job) -> Job:
        written = job["prompt"] + job["reply"] if after_prompt else job["reply"]
        source = sanitize(written, job["entry_point"])
        checked = job.get("checked")
        return {"passed": passes_evalplus(source, job["entry_point"], **checked)} if checked else {"source": source}

    return judge


def passes_evalplus(source: str, entry_point: str, dataset: str, reference: str, inputs: Any, atol: float) -> bool:
    from evalplus.eval import untrusted_check
    from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
    from evalplus.gen.util import trusted_exec

    if isinstance(inputs, str):
        names: dict[str, Any] = {}
        exec(inputs, names)
        inputs = names["inputs"]
    only_whether = dataset == "mbpp" and entry_point in MBPP_OUTPUT_NOT_NONE_TASKS
    right, seconds = trusted_exec(reference, inputs, entry_point, record_time=True, output_not_none=only_whether)
    verdict = untrusted_check(dataset, source, inputs, entry_point, right, atol, seconds, fast_check=True)
    return bool(verdict[0] == "pass")


JUDGES: dict[str, Callable[[], Judge]] = {
    "Math-Verify": lambda: math_verify,
    "lm-eval minerva_math": lm_eval_minerva_math,
    "lm-eval hendrycks_math": lm_eval_hendrycks_math,
    "lm-eval gsm8k strict-match": lambda: lm_eval_gsm8k("strict-match"),
    "lm-eval gsm8k flexible-extract": lambda: lm_eval_gsm8k("flexible-extract"),
    "lm-eval humaneval": lambda: lm_eval_humaneval("build_predictions"),
    "lm-eval humaneval_instruct": lambda: lm_eval_humaneval("build_predictions_instruct"),
    "lm-eval mbpp_instruct": lm_eval_mbpp_instruct,
    "EvalPlus, reply alone": lambda: evalplus(after_prompt=False),
    "EvalPlus, after the prompt": lambda: evalplus(after_prompt=True),
}


def cut(reply: str, until: list[str]) -> str:
    """What the harness would have let a model write: it stops generating at these strings."""
    return reply[: min((place for place in map(reply.find, until) if place >= 0), default=None)]


def task_folder(task: str) -> Path:
    specification = importlib.util.find_spec("lm_eval")
    assert specification is not None and specification.origin is not None
    return Path(specification.origin).parent / "tasks" / task


def task_module(task: str) -> Any:
    """The rules of one of lm-eval's tasks, loaded by path as its own loader does."""
    specification = importlib.util.spec_from_file_location(f"rules_of_{task}", task_folder(task) / "utils.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def settings(task: str, name: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads names of functions as text."""

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    return yaml.load((task_folder(task) / f"{name}.yaml").read_text(encoding="utf-8"), Loader)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a judge or a program prints is no answer
    for name, content in UNUSED.items():
        module = sys.modules[name] = types.ModuleType(name)
        vars(module).update(content)
    judge = JUDGES[sys.argv[1]]()
    for line in sys.stdin:
        try:
            answer = judge(json.loads(line))
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
