"""Collecting verified examples and evaluating honestly."""

from s0.bench.asking import Answerer, Questions, Samples
from s0.bench.collection import CollectSettings, collect
from s0.bench.controls import shown_before, wrong_content
from s0.bench.evaluation import evaluate, sampled_summary, summary
from s0.bench.joining import join
from s0.bench.pass_rate_scale import scale_by_pass_rate
from s0.bench.record import comparisons, environment, evaluation_record
from s0.bench.rounds import Improvement, ImproveSettings, improve
from s0.bench.saved_states import evaluate_states
from s0.bench.stats import compare, crossed, holm, paired_t, pass_at_k, rate, t_interval, welch
from s0.bench.variants import Outcome, Variant, answer, run_variant, tuned_facts

__all__ = [
    "Answerer",
    "CollectSettings",
    "ImproveSettings",
    "Improvement",
    "Outcome",
    "Questions",
    "Samples",
    "Variant",
    "answer",
    "collect",
    "compare",
    "comparisons",
    "crossed",
    "environment",
    "evaluate",
    "evaluate_states",
    "evaluation_record",
    "holm",
    "improve",
    "join",
    "paired_t",
    "pass_at_k",
    "rate",
    "run_variant",
    "sampled_summary",
    "scale_by_pass_rate",
    "shown_before",
    "summary",
    "t_interval",
    "tuned_facts",
    "welch",
    "wrong_content",
]
