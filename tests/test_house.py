"""Test that the package keeps the rules of docs/architecture.md: floors, homes, names, annotations, docstrings.

Everything is read from the syntax trees of `tests/house.py`; nothing is run but the top-level package.
"""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import deepfake_detect
from tests import house
from tests.house import FLOOR_OF, HOMES, PAGE, PATHS, ROOT, SOURCE, TEXTS, TREES, entry_of, imports

LIGHT = {
    "": "__init__ __main__ _version errors detector trainable",
    "cli/": " ".join(Path(file).stem for file in TREES if entry_of(file) == "cli"),
    "drawing/": "annotate result",
    "engines/": "outline openvino_graph openvino_engine onnx_engine runner",
    "faces/": "face",
    "inputs/": "source image listing",
    "metrics/": "classification",
    "predict/": "predictor stream preprocess content look verdict prediction intake",
    "system/": "device folders progress threads",
    "weights/": "card bundle golden onnx_file",
}
HEAVY = {"torch", "timm", "torchvision", "huggingface_hub", "safetensors", "sklearn", "matplotlib"}
PUBLIC_NAMES = {
    "AsyncClient", "AuditReport", "Augmentation", "BackendUnavailable", "Card", "CaseReport",
    "ClassReport", "Classifier", "Client", "Content",
    "ContentRouter", "DatasetError", "DeepfakeDetectError", "Detector", "DoctorReport", "Epoch", "Explanation",
    "Face", "Finding", "HubUnavailable", "ImageTooLarge", "ImageUnreadable", "InvalidOption", "LayerNotFound",
    "MetadataFinding", "MetadataFindings", "MissingExtra", "Prediction", "Preprocessing", "Report", "Schedule",
    "ServerUnavailable", "Stability", "TextureLook", "TrainingDiverged", "Trial", "UnknownModel", "UnknownWeights",
    "Verification", "VideoPrediction", "WeightsCorrupted", "WeightsMismatch", "audit", "classify_content",
    "create_model", "doctor", "find_faces", "inspect_metadata", "list_models", "list_pretrained", "tune", "verify",
    "ScoredDataset", "score_dataset", "score_rows",
}  # fmt: skip
FORBIDDEN = {"utils", "util", "core", "base", "common", "helpers", "misc"}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def public(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Yield the public functions and classes, and the public methods of public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_") and not is_overload(inner):
                    yield f"{node.name}.{inner.name}", inner


def is_overload(node: ast.FunctionDef) -> bool:
    """Tell whether this is one of the signatures of a function, the last of which has the docstring."""
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def upward(file: str, tree: ast.AST) -> list[str]:
    """List the imports that do not lead to a lower floor."""
    entry, wrong = entry_of(file), []
    for module, line in imports(tree):
        parts = module.split(".")
        if parts[0] != "deepfake_detect" or parts[1:2] == [entry]:
            continue
        if len(parts) == 1 or FLOOR_OF.get(parts[1], 99) >= FLOOR_OF[entry]:
            wrong.append(f"{file}:{line} (floor {FLOOR_OF[entry]}) imports {module}")
    return wrong


def test_every_entry_has_a_floor() -> None:
    assert {entry_of(file) for file in TREES} == set(FLOOR_OF)


def test_imports_lead_to_lower_floors() -> None:
    assert [line for file, tree in TREES.items() for line in upward(file, tree)] == []


@pytest.mark.parametrize(
    "text",
    [
        "from deepfake_detect.detector import Detector",
        "from deepfake_detect import Detector",
        "import deepfake_detect.cli",
        "if TYPE_CHECKING:\n    from deepfake_detect.predict.prediction import Prediction",
        "def f():\n    from deepfake_detect import detector",
        "from deepfake_detect.metrics import bootstrap",
    ],
)
def test_the_floor_rule_notices(text: str) -> None:
    assert upward("inputs/image.py", ast.parse(text))


def cycle(targets: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a ring; empty where there is none."""
    left = {name: set(others) for name, others in targets.items()}
    while free := [name for name, others in left.items() if not others & set(left)]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_modules_of_a_wing_import_each_other_in_a_ring() -> None:
    assert cycle({file.removesuffix(".py"): house.own_imports(file) for file in TREES}) == []


def test_the_ring_rule_notices() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_no_module_is_called_like_a_public_function() -> None:
    """``import deepfake_detect.x`` and ``deepfake_detect.x`` must never be two different things."""
    names = {part for file in TREES for part in file.removesuffix(".py").split("/")}
    for file, tree in TREES.items():
        assert house.public_functions(tree) & names == set(), file
    assert set(deepfake_detect.__all__) & names == set()


def away_from_home(file: str, tree: ast.AST) -> list[str]:
    """List the imports of third-party libraries away from their homes."""
    names = ((module.split(".")[0], line) for module, line in imports(tree))
    places = {file.removesuffix(".py"), entry_of(file)}
    return [f"{file}:{line} imports {top}" for top, line in names if not places & HOMES.get(top, places)]


def test_third_party_libraries_stay_at_home() -> None:
    assert [line for file, tree in TREES.items() for line in away_from_home(file, tree)] == []


def test_the_home_rule_notices() -> None:
    assert away_from_home("training/loop.py", ast.parse("def f():\n    import timm.models"))
    assert away_from_home("models/cnn.py", ast.parse("from cv2 import resize"))
    assert away_from_home("drawing/annotate.py", ast.parse("import click"))
    assert not away_from_home("cli/any_module.py", ast.parse("import click"))


def requirements() -> dict[str, list[str]]:
    """Return the distributions that each extra of pyproject.toml names; those without an extra under ''."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [_distribution(line) for line in wanted] for extra, wanted in lines.items()}


def _distribution(line: str) -> str:
    return re.split(r"[\[>=<;\s]", line)[0].lower().replace("_", "-")


TOOLS = {"dev", "docs", "recipes"}  # extras for developers, whose lowest versions are not tested

# Distributions that the tests may have to do without.
NOT_ALWAYS_INSTALLED = {
    "gradio": ["gradio"],
    "umap": ["umap-learn"],
    "c2pa": ["c2pa-python"],
    "mcp": ["mcp"],
    "ray": ["ray"],
}
DISTRIBUTIONS = {**NOT_ALWAYS_INSTALLED, **metadata.packages_distributions()}


def outside(tree: ast.AST) -> dict[str, set[str]]:
    """Return the third-party modules a tree imports, each with the distributions that it may come from."""
    names = {module for module, _ in imports(tree)}
    tops = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"deepfake_detect"}
    tops |= {"tensorboard"} if "torch.utils.tensorboard" in names else set()
    return {top: {name.lower().replace("_", "-") for name in DISTRIBUTIONS.get(top, [top])} for top in tops}


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    users = [line for extra, lines in project["optional-dependencies"].items() if extra not in TOOLS for line in lines]
    bounds = dict(
        re.sub(r"\[.*?\]", "", line).split(">=") for line in [*project["dependencies"], *users] if ">=" in line
    )
    lines = (ROOT / "constraints" / "lowest.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert set(pins) == set(bounds)
    for name, bound in bounds.items():
        assert f"{pins[name]}.".startswith(f"{bound}."), f"{name} is pinned to {pins[name]}, its bound is {bound}"


def test_ci_runs_the_commands_that_contributing_names() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    checks = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Checks")[2].partition("## ")[0]
    commands = re.findall(r"^\| .+ \| `(.+)` \|$", checks, re.MULTILINE)
    assert len(commands) == 8
    for command in commands:
        for step in command.replace(" -e ", " ").split(" && "):
            assert step in workflow, step
    for tool in ("ruff format", "ruff check", "mypy"):
        assert f"entry: {tool}" in hooks and any(command.startswith(tool) for command in commands)


def test_every_third_party_import_is_declared() -> None:
    declared = {name for names in requirements().values() for name in names}
    for file, tree in TREES.items():
        for top, names in outside(tree).items():
            assert names & declared, f"{file} imports {top}, which pyproject.toml does not name"


def test_every_extra_has_code_that_imports_it() -> None:
    for_developers = {"", "test", "dev", "docs", "recipes"}
    imported = {name for tree in TREES.values() for names in outside(tree).values() for name in names}
    for extra, names in requirements().items():
        assert extra in for_developers or set(names) & imported, f"nothing imports what [{extra}] installs"


def test_light_modules_do_not_load_torch_at_once() -> None:
    for module in [wing + name for wing, names in LIGHT.items() for name in names.split()]:
        body = TREES[f"{module}.py"].body
        outer = ast.Module([node for node in body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        assert {name.split(".")[0] for name, _ in imports(outer)} & HEAVY == set(), module


def test_public_names_are_annotated_and_documented() -> None:
    bare = []
    for file, tree in TREES.items():
        for name, node in public(tree):
            bare += [] if ast.get_docstring(node) else [f"{file}: {name} has no docstring"]
            if isinstance(node, ast.FunctionDef):
                rules = node.args
                every = [*rules.posonlyargs, *rules.args, *rules.kwonlyargs, *filter(None, [rules.vararg, rules.kwarg])]
                missing = [arg.arg for arg in every if not arg.annotation and arg.arg not in ("self", "cls")]
                bare += [f"{file}: {name}: {arg}" for arg in missing]
                bare += [] if node.returns else [f"{file}: {name}: what it returns"]
    assert bare == []


def test_a_module_begins_with_what_it_does() -> None:
    for file in TREES:
        first = house.first_line(file)
        assert first.endswith(".") and len(first) > 20, f"{file} begins with {first!r}; say in a sentence what it does"


def test_booleans_are_never_positional() -> None:
    wrong = []
    for file, tree in TREES.items():
        for node in functions(tree):
            if any(ast.unparse(decorator).startswith("click.command") for decorator in node.decorator_list):
                continue  # click passes every option by its name
            positional = [*node.args.posonlyargs, *node.args.args]
            flags = [arg.arg for arg in positional if ast.unparse(arg.annotation or ast.Pass()) == "bool"]
            wrong += [f"{file}: {node.name}({flag})" for flag in flags]
    assert wrong == []


def test_nothing_prints_but_the_command_line() -> None:
    for file, tree in TREES.items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        assert entry_of(file) == "cli" or [c.lineno for c in calls if ast.unparse(c.func) == "print"] == [], file


def loose(file: str, tree: ast.AST) -> list[str]:
    """List swallowed errors, loose loading, unpickling, and asserts that decide something."""
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
            wrong.append(f"{file}:{node.lineno}: an error is swallowed")
        if isinstance(node, ast.keyword) and ast.unparse(node) in ("strict=False", "pretrained=True"):
            wrong.append(f"{file}:{node.value.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
            wrong.append(f"{file}:{node.lineno}: torch.load unpickles")
        if isinstance(node, ast.Assert) and not narrows(node.test):
            wrong.append(f"{file}:{node.lineno}: assert is no check: python -O drops it")
    return wrong


def narrows(test: ast.expr) -> bool:
    """Tell whether an assert only tells mypy a type."""
    text = ast.unparse(test)
    return bool(
        re.fullmatch(r"isinstance\(.+\)|callable\(.+\)|[\w.\[\]]+ is not None( and [\w.\[\]]+ is not None)*", text)
    )


def test_nothing_is_swallowed_pickled_loosely_loaded_or_asserted() -> None:
    assert [line for file, tree in TREES.items() for line in loose(file, tree)] == []


def test_the_assert_rule_notices() -> None:
    assert loose("a.py", ast.parse("assert x > 0"))
    assert not loose("a.py", ast.parse("assert x is not None and self.y is not None"))


def test_names() -> None:
    assert {Path(file).stem for file in TREES} & FORBIDDEN == set()
    for file, tree in TREES.items():
        for name, _ in public(tree):
            last = name.rpartition(".")[2]
            assert name == "CommandLine.get_command" or not re.match(r"get_|do_", last), (
                f"{file}: {name}"
            )  # click's name
            assert not re.search(r"(Manager|Handler|Helper)$", last), f"{file}: {name}"


def test_files_and_functions_stay_small() -> None:
    """A guide, not a knife: a file may outgrow 350 lines where its meaning does not end there."""
    lengths = {file: len(text.splitlines()) for file, text in TEXTS.items()}
    assert statistics.median(lengths.values()) <= 200
    assert sum(length > 350 for length in lengths.values()) <= len(lengths) // 10
    assert statistics.median(lines_of(node) for tree in TREES.values() for node in functions(tree)) < 12


def test_tests_stand_beside_what_they_test() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        wing = path.parent.relative_to(ROOT / "tests").as_posix()
        assert wing == "." or (SOURCE / wing).is_dir() or (ROOT / wing).is_dir(), path


def test_the_tables_of_the_architecture_page_are_true() -> None:
    page = PAGE.read_text("utf-8")
    assert Counter(re.findall(r"<!-- table: (\w+) -->", page)) == Counter(list(house.TABLES))
    assert house.with_tables(page) == page, "run: python tests/house.py"


def test_the_top_level_package_shows_these_names() -> None:
    assert set(deepfake_detect.__all__) - {"__version__"} == PUBLIC_NAMES
    assert set(dir(deepfake_detect)) >= PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(deepfake_detect, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        deepfake_detect.no_such_name  # noqa: B018


def test_the_top_level_package_does_not_load_torch() -> None:
    code = (
        "import sys; import deepfake_detect; "
        "print(*sorted({'torch', 'timm', 'cv2', 'huggingface_hub', 'PIL', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_is_tested_is_this_source() -> None:
    installed = Path(deepfake_detect.__file__).parent
    for path in PATHS:
        copy = installed / path.relative_to(SOURCE)
        assert copy.read_bytes() == path.read_bytes(), f"{copy} is not {path}; run: pip install '.[test]'"


def test_the_version_is_the_newest_in_the_changelog() -> None:
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest and newest[1] == deepfake_detect.__version__
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"version: {deepfake_detect.__version__}\n" in citation


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("recipes/*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            file, _, anchor = link.partition("#")
            if "://" not in link:
                target = page.parent / file if file else page
                assert target.exists(), f"{page.name} links to {link}"
                titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE) if anchor else [anchor]
                assert anchor in {title.lower().replace(" ", "-") for title in titles}, f"{page.name} links to {link}"
