"""What the untouched pocket models do: greedy, and sampled sixteen times per problem, on the final split.

    python benchmarks/pocket_models.py [--folder benchmarks/results/pocket] [--jobs 2]

A few minutes on two cores. pass@16 is the unbiased estimate over 16 samples: here, the share of problems solved at
least once. The rows of a model are those of its own seed 0; the models were made by `make pocket`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from units import run_units

from s0 import load_model, tasks
from s0.bench import CollectSettings, environment, evaluate, pass_at_k, summary
from s0.core.fingerprint import fingerprint
from s0.decode import Sampling, complete
from s0.models import POCKET_MODELS
from s0.tasks.sandbox import Sandbox

FOLDER = Path(__file__).resolve().parent / "results" / "pocket"
N_SAMPLES = 16


def run(model_name: str) -> dict[str, Any]:
    model, tokenizer = load_model(model_name)
    task = tasks.load("pocket-code")
    problems = task.split("final")
    drawn = CollectSettings()
    sampling = Sampling(task.max_new_tokens, drawn.temperature, drawn.top_p, stop=tuple(task.stop))
    asked = [problem for problem in problems for _ in range(N_SAMPLES)]
    with Sandbox() as sandbox:
        greedy = evaluate(model, tokenizer, task, problems, sandbox=sandbox)
        written = complete(model, tokenizer, [problem.prompt for problem in asked], sampling, seed=0)
        replies = [(problem, one.text) for problem, one in zip(asked, written, strict=True)]
        verdicts = [verdict.passed for verdict in task.verdicts(replies, sandbox=sandbox)]
    solved = [sum(verdicts[i : i + N_SAMPLES]) for i in range(0, len(verdicts), N_SAMPLES)]
    return {
        "benchmark": "pocket_models",
        "environment": environment(),
        "model": {"name": model_name, "fingerprint": fingerprint(model)},
        "weights": model.num_parameters(),
        "task": {"name": task.name, "version": task.version, "data_sha256": task.data_sha256},
        "greedy": summary(greedy),
        "sampled": {
            "temperature": drawn.temperature,
            "top_p": drawn.top_p,
            "samples": N_SAMPLES,
            **{f"pass_at_{k}": sum(pass_at_k(N_SAMPLES, n, k) for n in solved) / len(solved) for k in (1, N_SAMPLES)},
        },
        "passed_of_samples": solved,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    run_units([(model,) for model in POCKET_MODELS], run, chosen.folder, chosen.jobs)


if __name__ == "__main__":
    main()
