"""Run cases in child processes with limits, count how they ended, and print the table of a campaign."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from deepfake_detect.errors import DeepfakeDetectError

TIMEOUT_S = 60.0


@dataclass(kw_only=True)
class Table:
    """Counts of a campaign, by kind of attack.

    Attributes:
        passed: Cases that ended as promised: with a verdict or with an error of the package.
        failed: Cases that did not.
        findings: A line for each case that failed.
    """

    passed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def count(self, kind: str, problem: str | None) -> None:
        """Count a case; a problem is what it did in place of what was promised."""
        if problem is None:
            self.passed[kind] += 1
            return
        self.failed[kind] += 1
        self.findings.append(f"{kind}: {problem}")

    def print(self) -> int:
        """Print the table, and return the exit status."""
        kinds = sorted({*self.passed, *self.failed})
        print(f"{'attack':<34}{'tried':>8}{'passed':>8}{'found':>7}")
        for kind in kinds:
            passed, failed = self.passed[kind], self.failed[kind]
            print(f"{kind:<34}{passed + failed:>8,}{passed:>8,}{failed:>7,}")
        passed, failed = self.passed.total(), self.failed.total()
        print(f"{'all':<34}{passed + failed:>8,}{passed:>8,}{failed:>7,}")
        for line in self.findings[:40]:
            print(line[:300])
        return 1 if failed else 0


def ends_well(work: Callable[[], Any]) -> str | None:
    """Call, and return what went wrong: any exception but those of the package."""
    try:
        work()
    except DeepfakeDetectError:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def in_child(work: Callable[[], Any], *, cpu_s: int = 20, memory_mb: int | None = None) -> str | None:
    """Do the same in a forked child, with a limit of time and memory; a crash, a hang or an exception is a problem."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        problem = ends_well(work)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        if problem is None and memory_mb is not None and peak_mb > memory_mb:
            problem = f"took {peak_mb:,} MB, expected at most {memory_mb:,}"
        os.write(writer, json.dumps(problem).encode())
        os._exit(0)
    os.close(writer)
    with selectors.DefaultSelector() as selector, os.fdopen(reader, "rb") as pipe:
        selector.register(pipe, selectors.EVENT_READ)
        if not selector.select(TIMEOUT_S):
            os.kill(child, signal.SIGKILL)
        content = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status or not content:
        return f"the process ended with status {status}"
    problem: str | None = json.loads(content)
    return problem


def until(seconds: float, cases: Iterable[Any]) -> Iterable[Any]:
    """Yield cases until the time is over."""
    end = time.monotonic() + seconds
    for case in cases:
        if time.monotonic() > end:
            print(f"stopped after {seconds:,.0f} s", file=sys.stderr)
            return
        yield case
