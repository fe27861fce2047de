"""Test that freed memory stays in the process only where that was asked for, and results are the same."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from deepfake_detect.cli.main import main
from deepfake_detect.system import malloc
from deepfake_detect.system.malloc import keep_freed_memory, kept_memory
from tests.toy import learn, same, toy_crops

BLOCKS = """
import resource, sys
import numpy as np
from deepfake_detect.system.malloc import kept_memory

def pages(times):
    \"\"\"Count the pages that the kernel clears while a block of 64 MB is asked for, filled and set free.\"\"\"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.full(2**24, 1.0, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

first = pages(4)
with kept_memory():
    pages(16)  # until its small lists of leftovers are full, glibc takes new memory
    kept = pages(4)
    held = resident()
returned = held - resident()
print(first, kept, pages(4), returned)
"""


PICTURES = """
import resource
import numpy as np
from deepfake_detect.system.malloc import keep_freed_memory

def pages(times):
    \"\"\"Count the pages that the kernel clears while four blocks of 3 MB are asked for, filled and set free.\"\"\"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        held = [np.ones(3 * 2**20, np.uint8) for _ in range(4)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages(4)
first = pages(8)
keep_freed_memory()
pages(4)
print(first, pages(8))
"""


def run(program: str = BLOCKS, **environment: str) -> tuple[int, ...]:
    path = os.pathsep.join([str(Path(malloc.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**plain, "PYTHONPATH": path, "NUMPY_MADVISE_HUGEPAGE": "0", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return tuple(int(word) for word in done.stdout.split())


with_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or os.sysconf("SC_PAGE_SIZE") != 4096, reason="no glibc with pages of 4 kB"
)
BLOCK = 2**26  # bytes
PAGES = BLOCK // 4096
PICTURE_PAGES = 4 * 3 * 2**20 // 4096


@with_glibc
def test_a_block_that_was_set_free_is_not_cleared_again_and_given_back_at_the_end() -> None:
    first, kept, after, returned = run()
    assert first >= 4 * PAGES * 0.2
    assert kept < PAGES / 10
    assert after >= 4 * PAGES * 0.2  # as before
    assert returned > BLOCK * 0.9


@with_glibc
def test_who_has_set_malloc_is_not_overruled() -> None:
    _, kept, _, _ = run(MALLOC_MMAP_THRESHOLD_="65536")
    assert kept >= 4 * PAGES * 0.2


@with_glibc
def test_what_pictures_set_free_stays_from_the_first_one_on() -> None:
    first, kept = run(PICTURES)
    assert first >= 8 * PICTURE_PAGES * 0.2
    assert kept < PICTURE_PAGES / 10
    _, kept = run(PICTURES.replace("pages(4)\nfirst = pages(8)\n", "first = 0\n"))  # before glibc has learned anything
    assert kept < PICTURE_PAGES / 10
    _, kept = run(PICTURES, GLIBC_TUNABLES="glibc.malloc.mmap_threshold=131072")
    assert kept >= 8 * PICTURE_PAGES * 0.2


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malloc.sys, "platform", "darwin")
    assert not keep_freed_memory()
    with kept_memory():
        assert float(torch.ones(3).sum()) == 3


def test_a_training_comes_to_the_same_to_the_bit(tmp_path: Path) -> None:
    toy = toy_crops(tmp_path / "toy")
    torch.set_num_threads(1)
    with kept_memory():
        kept = learn(toy, tmp_path / "kept", epochs=2)
    assert same(kept, learn(toy, tmp_path / "plain", epochs=2))


def test_the_command_line_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr("deepfake_detect.cli.main.keep_freed_memory", lambda: calls.append(True))
    assert CliRunner().invoke(main, ["models"]).exit_code == 0
    assert calls == [True]
