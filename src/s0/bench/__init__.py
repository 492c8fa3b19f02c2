"""Collecting verified examples and evaluating honestly."""

from s0.bench.collect import CollectSettings, collect
from s0.bench.demo import DemoSettings, run_demo
from s0.bench.evaluate import Answer, evaluate, task_prompt
from s0.bench.record import environment, write_record
from s0.bench.stats import Comparison, Rate, compare, pass_at_k, rate, t_interval

__all__ = [
    "Answer",
    "CollectSettings",
    "Comparison",
    "DemoSettings",
    "Rate",
    "collect",
    "compare",
    "environment",
    "evaluate",
    "pass_at_k",
    "rate",
    "run_demo",
    "t_interval",
    "task_prompt",
    "write_record",
]
