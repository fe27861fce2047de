"""Does the package keep the rules of the house?

`docs/architecture.md` tells them: floors, homes of third-party libraries, names, sizes, annotations and docstrings.
Everything is read from the syntax trees; nothing is run but the door.
"""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import deepfake_detect

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "deepfake_detect"
PATHS = sorted(SOURCE.rglob("*.py"))
TEXTS = {path.relative_to(SOURCE).as_posix(): path.read_text("utf-8") for path in PATHS}
TREES = {file: ast.parse(text) for file, text in TEXTS.items()}

FLOORS = {  # room to number, and a room imports from lower numbers only; drawn in docs/architecture.md
    room: floor
    for floor, rooms in enumerate(
        [
            "errors outline",
            "canvas card device distributed draw fetch golden graph labels layers memory metrics models overlay page "
            "parts rows tables twins",
            "bootstrap charts conformal findings heat hub image poster preprocess readme resample schedule "
            "separability timeline trial yunet",
            "ablation augment blend boards bundle checkpoint delivery figures gallery items optimise results video",
            "compiled faces faithful report_page weights",
            "data explanation forward headbundle report scoring",
            "audit_cues content facestore split stream tracks",
            "crops leaks predictor",
            "audit calibrate embedding evaluate explain footage loader seen stability",
            "features sheet",
            "student",
            "train",
            "teach",
            "detector tune",
            "cli_input cli_output doctor",
            "cli_learn",
            "cli",
            "__init__ __main__",
        ]
    )
    for room in rooms.split()
}
HOMES = {
    "click": {"cli", "cli_learn"},
    "cv2": {"faces", "image", "resample", "video"},
    "matplotlib": {"canvas"},
    "optuna": {"tune"},
    "torchvision": {"augment"},
    "huggingface_hub": {"hub"},
    "openvino": {"graph"},
    "timm": {"models/backbones"},
}
LIGHT = {
    "bundle",
    "compiled",
    "content",
    "detector",
    "device",
    "errors",
    "graph",
    "outline",
    "predictor",
    "preprocess",
    "scoring",
    "stream",
    "card",
    "cli_input",
    "cli_output",
    "fetch",
    "draw",
    "golden",
    "image",
    "metrics",
    "results",
    "cli",
    "cli_learn",
    "__init__",
    "__main__",
}
DOOR = {
    "AuditReport", "Augmentation", "Card", "Content", "Detector", "DoctorReport", "Epoch", "Explanation", "Face",
    "Finding", "Prediction", "Preprocessing", "Report", "Schedule", "Stability", "Trial", "audit", "tune",
    "DatasetError", "DeepfakeDetectError", "HubUnavailable", "ImageTooLarge", "ImageUnreadable", "LayerNotFound",
    "MissingExtra", "TrainingDiverged", "UnknownModel", "UnknownWeights", "WeightsCorrupted", "WeightsMismatch",
    "VideoPrediction", "classify_content", "create_model", "doctor", "find_faces", "list_models", "list_pretrained",
}  # fmt: skip
FORBIDDEN_MODULES = {"utils", "util", "core", "base", "common", "helpers", "misc"}


def room_of(file: str) -> str:
    """Give the room that a file belongs to: the folder, or the module."""
    return file.split("/")[0].removesuffix(".py")


def imports(tree: ast.AST, package: str = "deepfake_detect") -> Iterator[tuple[str, int]]:
    """Give every module that a tree imports anywhere, functions and TYPE_CHECKING included, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            module = str(node.module)
            if module == package:
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


def module_level_imports(tree: ast.Module) -> set[str]:
    outer = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    return {name.split(".")[0] for name, _ in imports(outer)}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def public(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Give the public functions and classes, and the public methods of public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in TREES} <= set(FLOORS)


def wrong_floor(file: str, tree: ast.AST) -> list[str]:
    room = room_of(file)
    found = []
    for module, line in imports(tree):
        parts = module.split(".")
        if parts[0] != "deepfake_detect" or parts[1:2] == [room] or parts[1:2] == ["__version__"]:
            continue
        if len(parts) == 1 or FLOORS.get(parts[1], 99) >= FLOORS[room]:
            found.append(f"{file}:{line} (floor {FLOORS[room]}) imports {module}")
    return found


@pytest.mark.parametrize("file", TREES)
def test_a_room_imports_from_lower_floors_only(file: str) -> None:
    assert wrong_floor(file, TREES[file]) == []


@pytest.mark.parametrize(
    "text",
    [
        "from deepfake_detect.detector import Detector",
        "from deepfake_detect import Detector",
        "import deepfake_detect.cli",
        "if TYPE_CHECKING:\n    from deepfake_detect.results import Face",
        "def f():\n    from deepfake_detect import detector",
    ],
)
def test_the_floor_rule_notices(text: str) -> None:
    assert wrong_floor("image.py", ast.parse(text))


def stranger(file: str, tree: ast.AST) -> list[str]:
    names = ((module.split(".")[0], line) for module, line in imports(tree))
    return [f"{file}:{line} imports {top}" for top, line in names if file[:-3] not in HOMES.get(top, {file[:-3]})]


@pytest.mark.parametrize("file", TREES)
def test_third_party_libraries_stay_at_home(file: str) -> None:
    assert stranger(file, TREES[file]) == []


def test_the_home_rule_notices() -> None:
    assert stranger("train.py", ast.parse("def f():\n    import timm.models"))
    assert stranger("models/cnn.py", ast.parse("from cv2 import resize"))


def test_every_third_party_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    declared = {re.split(r"[\[>=<;\s]", line)[0].lower().replace("_", "-") for line in wanted}
    known = {"umap": ["umap-learn"], **metadata.packages_distributions()}  # an extra that the tests do without
    for file, tree in TREES.items():
        for top in (
            {module.split(".")[0] for module, _ in imports(tree)} - sys.stdlib_module_names - {"deepfake_detect"}
        ):
            distributions = {name.lower().replace("_", "-") for name in known.get(top, [top])}
            assert distributions & declared, f"{file} imports {top}, which pyproject.toml does not name"


@pytest.mark.parametrize("room", sorted(LIGHT))
def test_light_rooms_do_not_load_torch_at_once(room: str) -> None:
    heavy = {"torch", "timm", "torchvision", "huggingface_hub", "cv2", "safetensors", "sklearn", "matplotlib"}
    assert module_level_imports(TREES[f"{room}.py"]) & heavy == set()


@pytest.mark.parametrize("file", TREES)
def test_a_module_begins_with_its_question(file: str) -> None:
    first = (ast.get_docstring(TREES[file]) or "").partition("\n")[0]
    assert first.endswith("?"), f"{file} begins with {first!r}"


@pytest.mark.parametrize("file", TREES)
def test_public_names_are_annotated_and_documented(file: str) -> None:
    bare = []
    for name, node in public(TREES[file]):
        if not ast.get_docstring(node):
            bare.append(f"{name}: no docstring")
        if isinstance(node, ast.FunctionDef):
            rules = node.args
            every = [*rules.posonlyargs, *rules.args, *rules.kwonlyargs, *filter(None, [rules.vararg, rules.kwarg])]
            bare += [f"{name}: {arg.arg}" for arg in every if not arg.annotation and arg.arg not in ("self", "cls")]
            bare += [] if node.returns else [f"{name}: what it returns"]
    assert bare == []


@pytest.mark.parametrize("file", TREES)
def test_booleans_are_never_positional(file: str) -> None:
    found = []
    for node in functions(TREES[file]):
        if any(".command" in ast.unparse(decorator) for decorator in node.decorator_list):
            continue  # click passes every option by its name
        positional = [*node.args.posonlyargs, *node.args.args]
        found += [
            f"{node.name}({arg.arg})" for arg in positional if ast.unparse(arg.annotation or ast.Pass()) == "bool"
        ]
    assert found == []


@pytest.mark.parametrize("file", TREES)
def test_nothing_prints_but_the_command_line(file: str) -> None:
    calls = [node for node in ast.walk(TREES[file]) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert file == "cli.py" or [call.lineno for call in calls if ast.unparse(call.func) == "print"] == []


@pytest.mark.parametrize("file", TREES)
def test_nothing_is_swallowed_pickled_or_loosely_loaded(file: str) -> None:
    found = []
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
            found += [f"line {node.lineno}: an error is swallowed"]
        if isinstance(node, ast.keyword) and ast.unparse(node) in ("strict=False", "pretrained=True"):
            found += [f"line {node.value.lineno}: {ast.unparse(node)}"]
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
            found += [f"line {node.lineno}: torch.load unpickles"]
    assert found == []


def test_names() -> None:
    assert {Path(file).stem for file in TREES} & FORBIDDEN_MODULES == set()
    for file, tree in TREES.items():
        for name, _ in public(tree):
            last = name.rpartition(".")[2]
            assert not re.match(r"get_|do_", last), f"{file}: {name}"
            assert not re.search(r"(Manager|Handler|Helper)$", last), f"{file}: {name}"


def test_files_and_functions_stay_small() -> None:
    lengths = {file: len(text.splitlines()) for file, text in TEXTS.items()}
    assert {file: length for file, length in lengths.items() if length > 350} == {}
    assert statistics.median(lengths.values()) <= 200
    assert statistics.median(lines_of(node) for tree in TREES.values() for node in functions(tree)) < 12


def test_the_door_shows_these_names() -> None:
    assert set(deepfake_detect.__all__) - {"__version__"} == DOOR
    assert set(dir(deepfake_detect)) >= DOOR
    for name in DOOR:
        assert getattr(deepfake_detect, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        deepfake_detect.no_such_name  # noqa: B018


def test_the_door_does_not_load_torch() -> None:
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
