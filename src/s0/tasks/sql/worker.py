"""What runs in the process that executes queries: read-only, bounded, thrown away when it breaks.

The process is told one job per line on the socket that is its standard input and says, line by line, whose query
runs now ("gold" or "answer") and the verdict. It ends when the socket is closed.

What holds a query back, from the inside out:

- the file is opened read-only and immutable, so no lock, journal or log is written;
- an authorizer allows reading tables, recursion and a list of functions; everything else, PRAGMA, ATTACH, writing
  and `load_extension` among it, is refused when the statement is compiled. Functions whose value changes from call
  to call (`random`) are not on the list: a verdict must not depend on luck;
- a handler called every few thousand steps ends a query that has used its processor time; what spends it within one
  step is ended by the kernel (RLIMIT_CPU), and memory likewise (RLIMIT_AS). Temporary tables stay in memory, and no
  file can be written at all (RLIMIT_FSIZE);
- a value has a greatest length (Python 3.11 and later; before, the memory limit alone bounds it), a result a greatest
  number of rows: of the answer no more are read than can be right.
"""

from __future__ import annotations

import json
import math
import resource
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s0.tasks.sql.comparison import Row, same_table

_STEPS = 5000

_ACTIONS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_CORE = """
abs char coalesce concat concat_ws format glob hex if ifnull iif instr length like likelihood likely lower ltrim max min
nullif octet_length printf quote replace round rtrim sign soundex substr substring trim typeof unhex unicode unistr
unlikely upper zeroblob
"""
_AGGREGATES_AND_WINDOWS = """
avg count group_concat median percentile percentile_cont percentile_disc string_agg sum total cume_dist dense_rank
first_value lag last_value lead nth_value ntile percent_rank rank row_number
"""
_DATES = "date datetime julianday strftime time timediff unixepoch current_date current_time current_timestamp"
_MATHEMATICS = """
acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi pow power
radians sin sinh sqrt tan tanh trunc
"""
_JSON = """
json json_array json_array_length json_extract json_group_array json_group_object json_object json_quote json_type
json_valid -> ->>
"""
_FUNCTIONS = frozenset(f"{_CORE} {_AGGREGATES_AND_WINDOWS} {_DATES} {_MATHEMATICS} {_JSON}".split())


@dataclass(frozen=True)
class Limits:
    """What one query may use on one database.

    Attributes:
        cpu_s: processor seconds, comparing included; they do not depend on how busy the machine is.
        wall_s: seconds until a process that says nothing is killed from outside.
        memory_bytes: address space of the process; not bounded on macOS.
        cell_bytes: the longest text or blob.
        rows: the most that a gold query may give.
    """

    cpu_s: float = 10.0
    wall_s: float = 300.0
    memory_bytes: int = 1 << 30
    cell_bytes: int = 1 << 20
    rows: int = 100_000


class QueryFailed(Exception):
    """The query gives no result; the message is the verdict's reason."""


def main(limits: Limits) -> None:
    """Judge jobs until the connection closes."""
    if sys.platform != "darwin":  # which refuses to bound the address space
        _bound(resource.RLIMIT_AS, limits.memory_bytes)
    _bound(resource.RLIMIT_FSIZE, 0)
    _bound(resource.RLIMIT_CORE, 0)
    with socket.socket(fileno=sys.stdin.fileno()) as link, link.makefile("rwb") as lines:
        _say(lines, {"ready": True})
        for line in lines:
            for message in judge(json.loads(line), limits):
                _say(lines, message)


def judge(job: dict[str, Any], limits: Limits) -> Iterator[dict[str, Any]]:
    """Run both queries of a job on each database in turn until the results differ.

    Args:
        job: "databases" (paths), "gold" and "answer" (queries), "ordered".
        limits: for each run.

    Yields:
        {"running": "gold" or "answer", "database": path} before each run; at last {"passed": bool, "reason": str}, or
        {"refused": str} where the gold query gives no result.
    """
    for database in job["databases"]:
        yield {"running": "gold", "database": database}
        try:
            width, expected = _result(database, job["gold"], limits, limits.rows)
        except QueryFailed as failure:
            yield {"refused": str(failure)}
            return
        yield {"running": "answer", "database": database}
        try:
            other_width, got = _result(database, job["answer"], limits, len(expected))
            if width != other_width or not same_table(expected, got, job["ordered"]):
                raise QueryFailed("wrong answer")
        except (QueryFailed, MemoryError) as failure:
            yield {"passed": False, "reason": str(failure) if isinstance(failure, QueryFailed) else "memory"}
            return
    yield {"passed": True, "reason": "passed"}


def _result(database: str, query: str, limits: Limits, most_rows: int) -> tuple[int, list[Row]]:
    """The number of columns of a query's result, and its rows."""
    deadline = _allow_processor_time(limits.cpu_s)
    try:
        with closing(_connect(database, limits)) as connection:
            connection.set_authorizer(_authorize)
            connection.set_progress_handler(lambda: time.process_time() > deadline, _STEPS)
            cursor = connection.execute(query)
            if cursor.description is None:
                raise QueryFailed("SQL error: no result")
            rows = cursor.fetchmany(most_rows + 1)
            width = len(cursor.description)
    except MemoryError:
        raise QueryFailed("memory") from None
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:  # bad characters in the query as well
        if time.process_time() > deadline:
            raise QueryFailed("timeout") from None
        raise QueryFailed(f"SQL error: {str(error)[:200]}") from None
    if len(rows) > most_rows:
        raise QueryFailed("too many rows")
    return width, rows


def _connect(database: str, limits: Limits) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{Path(database).absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None
    )
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    connection.execute("PRAGMA temp_store = MEMORY")
    if sys.version_info >= (3, 11):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.cell_bytes)
    return connection


def _authorize(action: int, _: str | None, function: str | None, *__: str | None) -> int:
    if action in _ACTIONS or (action == sqlite3.SQLITE_FUNCTION and (function or "").lower() in _FUNCTIONS):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _allow_processor_time(cpu_s: float) -> float:
    """When, on this process's clock, a query's time is over; at the next full second the kernel ends the process."""
    deadline = time.process_time() + cpu_s
    _bound(resource.RLIMIT_CPU, math.ceil(deadline))
    return deadline


def _bound(number: int, bound: int) -> None:
    """Set the limit that counts; it can be moved again, but not past the one that this process was started with."""
    hard = resource.getrlimit(number)[1]
    resource.setrlimit(number, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def _say(lines: Any, message: dict[str, Any]) -> None:
    lines.write(json.dumps(message).encode() + b"\n")
    lines.flush()
