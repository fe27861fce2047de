"""Run every example of README, docs and docstrings, against the installed package.

The source folder goes to the end of the path: `pytest` tests the wheel where one is installed, and the source where
none is, or where ``PYTHONPATH`` names it. With ``CI`` set it must be a wheel. Nothing but this machine can be reached,
and settings of the Hub in the environment do not count.

Examples run in a temporary folder that holds a copy of ``examples/``. In a ``console`` block, lines that begin with
``$ deepfake-detect`` are run, must succeed, and print what stands below them.
"""

import doctest
import os
import shlex
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

ROOT = Path(__file__).resolve().parent
if ROOT not in [Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]:
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]
HUB_HOME = tempfile.TemporaryDirectory()
for name in [name for name in os.environ if name.startswith("HF_")]:
    del os.environ[name]
os.environ["DEEPFAKE_DETECT_CACHE"] = os.path.join(HUB_HOME.name, "faces")
os.environ["HF_HOME"] = HUB_HOME.name  # before huggingface_hub is imported, which reads these once
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several threads on a busy machine are many times slower than one

import deepfake_detect  # noqa: E402 - the path must be right first
from deepfake_detect.engines import runner  # noqa: E402

runner.is_installed = lambda: False  # torch runs the networks, as without extras; OpenVINO has tests of its own

FOLDER = Path(deepfake_detect.__file__).resolve().parent
os.environ["PYTHONSAFEPATH"] = (
    "1"  # for programs that a test starts: they shall find the package where it was found here
)
if FOLDER.is_relative_to(ROOT / "deepfake_detect"):
    os.environ["PYTHONPATH"] = str(ROOT)

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


resolve = socket.getaddrinfo


def resolve_this_machine(host: str | bytes | None, *rest: object, **options: object) -> list[object]:
    """Find no address but this machine's."""
    if host not in (None, "localhost", "127.0.0.1", "::1", "0.0.0.0"):
        raise socket.gaierror(f"the tests may not reach {host}")
    return resolve(host, *rest, **options)


socket.getaddrinfo = resolve_this_machine


def pytest_report_header() -> str:
    """Say what is tested."""
    return f"deepfake_detect {deepfake_detect.__version__} from {FOLDER}"


def pytest_sessionstart() -> None:
    """Refuse to test the source folder where the wheel was asked for."""
    if os.environ.get("CI") and FOLDER.is_relative_to(ROOT / "deepfake_detect"):
        raise pytest.UsageError("CI is set, but deepfake_detect is the source folder; run: pip install '.[test]'")


def pytest_unconfigure() -> None:
    """Delete the temporary cache."""
    HUB_HOME.cleanup()


def enter_examples(namespace: dict[str, object]) -> None:
    """Begin a document in a temporary folder, as a newcomer who has the examples at hand."""
    folder = tempfile.mkdtemp()
    shutil.copytree(ROOT / "examples", Path(folder, "examples"))
    namespace["_left"] = os.getcwd()
    os.chdir(folder)


def leave_examples(namespace: dict[str, object]) -> None:
    """Delete what the examples wrote."""
    folder = os.getcwd()
    os.chdir(str(namespace["_left"]))
    shutil.rmtree(folder)


def run_console(example: Example) -> str | None:
    """Run the commands of a ``console`` block in this process, and compare what they print."""
    from click.testing import CliRunner

    from deepfake_detect.cli.main import main

    for block in ("\n" + str(example.parsed)).split("\n$ ")[1:]:
        command, _, expected = block.partition("\n")
        program, *arguments = shlex.split(command, comments=True)
        assert program == "deepfake-detect", f"cannot run {command!r}"
        result = CliRunner().invoke(main, arguments)
        if result.exit_code:
            return f"{command}\nexit status {result.exit_code}\n{result.output}{result.exception!r}"
        if expected.strip() and not doctest.OutputChecker().check_output(expected, result.output, OPTIONS):
            return f"{command}\nexpected:\n{expected}\ngot:\n{result.output}"
    return None


pytest_collect_file = (
    Sybil(
        parsers=[
            PythonCodeBlockParser(doctest_optionflags=OPTIONS),
            CodeBlockParser(language="console", evaluator=run_console),
            SkipParser(),
        ],
        patterns=["README.md", "docs/*.md"],
        setup=enter_examples,
        teardown=leave_examples,
    )
    + Sybil(
        parsers=[DocTestParser(optionflags=OPTIONS)],
        patterns=["deepfake_detect/*.py", "deepfake_detect/*/*.py"],
        document_types={".py": PythonDocStringDocument},
        setup=enter_examples,
        teardown=leave_examples,
    )
).pytest()
