"""The README's Python runs as it stands. (`make check` holds its tables against the records.)"""

import re
from pathlib import Path

import s0

ROOT = Path(__file__).resolve().parent.parent


def test_python_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    *untouched, tuned = printed.partition("tensor(")[0].splitlines()
    assert untouched == ["    # TODO", "    return None"] and tuned == "    return n * 7"
    assert printed.splitlines()[-1] == "[True, True, False, False]"
    *_, difference = printed.split("tensor(")
    assert float(re.match(r"[\d.]+", difference)[0]) > 0.1  # the tuned row differs from the base row


def test_public_names_are_sorted_and_exist():
    assert s0.__all__ == sorted(s0.__all__)
    assert all(hasattr(s0, name) for name in s0.__all__)


def test_the_method_file_stays_readable():
    lines = (ROOT / "src" / "s0" / "core" / "states.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300
