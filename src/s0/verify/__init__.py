"""The conformance suite: what this library promises, measured on any model.

for result in verify(*load_model("my/hybrid-model", dtype=torch.float32)): print(result.name, result.status)
"""

from s0.verify.check import Check
from s0.verify.suite import CHECKS, FAILS, Result, advice, verify

__all__ = ["CHECKS", "FAILS", "Check", "Result", "advice", "verify"]
