r"""The published harness of MATH (Hendrycks et al. 2021): the last box, in a normal form, compared as a string."""

from __future__ import annotations

import re

from s0.tasks.math.finding import braced


def normal_form(answer: str) -> str:
    """The published harness's normal form (Hendrycks et al. 2021), in which answers compare as strings."""
    text = answer.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac").replace("\\left", "").replace("\\right", "")
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    if text.count("\\text{ ") == 1:
        text = text.partition("\\text{ ")[0]  # the unit
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", text).replace(" ", "")
    text = _braced_fractions(text)
    if text == "0.5":
        return "\\frac{1}{2}"
    slashed = re.fullmatch(r"(-?\d+)/(-?\d+)", text)
    return f"\\frac{{{slashed[1]}}}{{{slashed[2]}}}" if slashed else text


def _braced_fractions(text: str) -> str:
    r"""`\frac12` and `\frac1{72}` with braces."""
    first, *rest = text.split("\\frac")
    for part in rest:
        if part[:1] != "{" and len(part) >= 2:
            part = f"{{{part[0]}}}" + (part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}")
        first += "\\frac" + part
    return first


def last_box(completion: str) -> str | None:
    r"""What stands in the last \boxed or \fbox, None without one or where its braces do not close."""
    start = max(completion.rfind("\\boxed"), completion.rfind("\\fbox"))
    if start < 0:
        return None
    rest = completion[start:].removeprefix("\\boxed").removeprefix("\\fbox")
    if rest.startswith(" "):
        return rest[1:].partition("$")[0]
    return braced(rest) if rest.startswith("{") else None
