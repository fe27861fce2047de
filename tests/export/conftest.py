"""Programs that the tests of the exported page need, and the page itself; a test without them is skipped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from deepfake_detect import Detector
from deepfake_detect.export.site import SiteReport, export_site
from deepfake_detect.export.web_runtime import VERSION
from tests.small_world import CACHE

HERE = Path(__file__).parent

Node = Callable[..., Any]
"""Runs a script of this folder with a job, and returns its result."""


@pytest.fixture(scope="session")
def runtime() -> Path:
    """Find onnxruntime-web: in the cache, where ``.ci/run`` puts it."""
    folder = CACHE / f"onnxruntime-web-{VERSION}"
    if not folder.is_dir():
        pytest.skip(f"no {folder}; .ci/run, or an export of a page, downloads it")
    return folder


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"node is {version}, expected 20 or newer")

    def run(script: str, job: Any, *, before: Sequence[str] = ()) -> Any:
        folder = tmp_path_factory.mktemp("node")
        (folder / "job.json").write_text(json.dumps(job))
        command = [program, HERE / script, *before, folder / "job.json", folder / "result.json"]
        environment = {**os.environ, "NODE_PATH": str(CACHE / "node" / "node_modules")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads((folder / "result.json").read_text())

    return run


@pytest.fixture(scope="session")
def chromium() -> str:
    """Find Chromium, and what drives it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed")
    if not (CACHE / "node" / "node_modules" / "playwright-core").is_dir():
        pytest.skip(f"no playwright-core and axe-core below {CACHE / 'node'}; .ci/run installs them")
    return program


@pytest.fixture(scope="session")
def mobile() -> Detector:
    return Detector.from_pretrained("mobile-fakefaces", device="cpu", dtype="float32", backend="torch")


@pytest.fixture(scope="session")
def site(mobile: Detector, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> SiteReport:
    return export_site(mobile, tmp_path_factory.mktemp("site"), runtime=runtime)
