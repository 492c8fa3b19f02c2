"""Records: what a job has found, with everything needed to check it or to make it again.

    Record                       of a job: who answered what, how it came out
    ├── Run                      of a variant: method, settings, size
    │   ├── Training             the account of how it was trained
    │   ├── Scale                the scale of a state, and what it was chosen from
    │   └── Layer                one layer of a state
    ├── Answer                   one completion with its verdicts
    ├── Summary                  of a variant's answers: rates with intervals
    ├── Comparison               of two variants, pair by pair, and what it shows: `effect`
    └── Sampled                  the same of answers that were drawn, where any were

On disk a record is JSON with these names; `read_record` checks it whole, so that nobody has to look twice. What an
earlier version has written is read too, as version 0 where it names none.
"""

from s0.record.compression import compressed, decompressed
from s0.record.parts import (
    FORMAT_VERSION,
    HELPED,
    HURT,
    KINDS,
    LEVEL,
    UNCLEAR,
    Answer,
    Comparison,
    Difference,
    Estimate,
    Examples,
    Layer,
    Model,
    Point,
    Rate,
    Record,
    Run,
    Sampled,
    SampledComparison,
    SampledDifference,
    SampledSummary,
    Scale,
    Scored,
    Summary,
    TaskFacts,
    Training,
    effect_of,
)
from s0.record.storing import parsed, plain, read_record, write_record

__all__ = [
    "FORMAT_VERSION",
    "HELPED",
    "HURT",
    "KINDS",
    "LEVEL",
    "UNCLEAR",
    "Answer",
    "Comparison",
    "Difference",
    "Estimate",
    "Examples",
    "Layer",
    "Model",
    "Point",
    "Rate",
    "Record",
    "Run",
    "Sampled",
    "SampledComparison",
    "SampledDifference",
    "SampledSummary",
    "Scale",
    "Scored",
    "Summary",
    "TaskFacts",
    "Training",
    "compressed",
    "decompressed",
    "effect_of",
    "parsed",
    "plain",
    "read_record",
    "write_record",
]
