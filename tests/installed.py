"""What the installed versions of transformers and PEFT can do together, and whether they are our newest."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version
from transformers import LlamaForCausalLM
from transformers.integrations.peft import MIN_PEFT_VERSION

from s0.core.releases import NEWEST, drops_prefixes

AT_THE_NEWEST = Version(version("transformers")).release[:2] >= NEWEST
"""Where long checks of what transformers alone may change are made of all models, and not of some."""

own_adapters = pytest.mark.skipif(
    Version(version("peft")) < Version(MIN_PEFT_VERSION),
    reason=f"the installed transformers' own add_adapter and load_adapter want peft {MIN_PEFT_VERSION}",
)
generation_behind_a_prefix = pytest.mark.skipif(
    drops_prefixes(LlamaForCausalLM.forward),
    reason="PEFT before 0.22 leaves a prefix out of generate() with the installed transformers",
)
