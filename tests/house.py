"""The rules of the house, read from the syntax trees, and the tables of docs/architecture.md that follow from them.

`tests/test_house.py` holds the package to `FLOORS` and `HOMES`. After a change, write the tables anew:

    python tests/house.py
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "deepfake_detect"
PAGE = ROOT / "docs" / "architecture.md"
PATHS = sorted(path for path in SOURCE.rglob("*.py"))
TEXTS = {path.relative_to(SOURCE).as_posix(): path.read_text("utf-8") for path in PATHS}
TREES = {file: ast.parse(text) for file, text in TEXTS.items()}

FLOORS = [  # an entry imports only entries of lower floors
    ["errors", "_version", "_lazy"],
    ["_options"],
    ["system"],
    ["inputs", "metrics", "models"],
    ["drawing", "weights"],
    ["engines", "provenance"],
    ["faces"],
    ["predict", "datasets"],
    ["video", "explain", "auditing", "evaluation", "export"],
    ["training", "reporting"],
    ["_keywords"],
    ["trainable"],
    ["detector", "classifier"],
    ["health"],
    ["serve", "scale"],
    ["cli"],
    ["__init__", "__main__"],
]
FLOOR_OF = {entry: floor for floor, entries in enumerate(FLOORS) for entry in entries}

HOMES = {  # the only modules, or whole wings, that import a third-party library
    "av": {"inputs/frames", "video/encode"},
    "c2pa": {"provenance/c2pa_validation"},
    "click": {"cli"},
    "cv2": {"faces/finder", "inputs/resize"},
    "fastapi": {"serve"},
    "fastapi_offline": {"serve"},
    "gradio": {"serve"},
    "h11": {"serve"},
    "httpx2": {"serve"},
    "huggingface_hub": {"weights/hub"},
    "matplotlib": {"drawing/canvas"},
    "mcp": {"serve"},
    "onnx": {"export"},
    "onnxruntime": {"engines/onnx_engine", "export/quantize"},
    "onnxscript": {"export/torch_graph"},
    "openvino": {"engines/openvino_graph"},
    "optuna": {"training/search"},
    "pandas": {"drawing/result"},
    "prometheus_client": {"serve"},
    "platformdirs": {"system/folders"},
    "pyarrow": {"datasets/tables", "scale"},
    "pydantic": {"serve"},
    "python_multipart": {"serve"},
    "ray": {"scale"},
    "simplejpeg": {"inputs/decoding"},
    "starlette": {"serve"},
    "timm": {"models/timm_backbone"},
    "torchvision": {"training/augment"},
    "uvicorn": {"serve"},
}


def entry_of(file: str) -> str:
    """Return the top entry a file belongs to: its wing, or the module itself."""
    return file.split("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every module that a tree imports, inside functions and TYPE_CHECKING too, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"relative import in line {node.lineno}; write it in full")
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if is_module(full) else str(node.module)), node.lineno


def is_module(name: str) -> bool:
    """Tell whether a dotted name is a module of the package."""
    parts = name.split(".")
    path = SOURCE.joinpath(*parts[1:])
    return parts[0] == "deepfake_detect" and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def own_imports(file: str) -> set[str]:
    """Return the modules of the package that a file imports, as paths without ending."""
    names = (name for name, _ in imports(TREES[file]) if name.split(".")[0] == "deepfake_detect")
    return {"/".join(name.split(".")[1:]) or "__init__" for name in names}


def arrows() -> set[tuple[str, str]]:
    """Return the pairs (module, module it imports) across wings."""
    pairs = {(file.removesuffix(".py"), target) for file in TREES for target in own_imports(file)}
    return {(file, target) for file, target in pairs if entry_of(file) != entry_of(target)}


def public_functions(tree: ast.Module) -> set[str]:
    """Return the names of the public functions of a module."""
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}


def first_line(file: str) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(TREES[file]) or "").partition("\n")[0]


def tree_table() -> str:
    """Return a table of the top entries, highest floor first, with what each is for."""
    rows = ["| floor | entry | what it is for |", "|---|---|---|"]
    for floor in range(len(FLOORS) - 1, -1, -1):
        for entry in FLOORS[floor]:
            wing = f"{entry}/__init__.py" in TREES
            file = f"{entry}/__init__.py" if wing else f"{entry}.py"
            rows.append(f"| {floor} | `{entry}{'/' if wing else ''}` | {first_line(file)} |")
    return "\n".join(rows)


def module_table() -> str:
    """Return a table of every module of every wing, with its first line."""
    rows = ["| module | what it does |", "|---|---|"]
    wings = [entry for floor in reversed(FLOORS) for entry in floor if f"{entry}/__init__.py" in TREES]
    for wing in wings:
        files = [file for file in TREES if entry_of(file) == wing and not file.endswith("__init__.py")]
        rows += [f"| `{file.removesuffix('.py')}` | {first_line(file)} |" for file in files]
    return "\n".join(rows)


def home_table() -> str:
    """Return a table of the third-party libraries that have homes."""
    rows = ["| library | imported only in |", "|---|---|"]
    rows += [f"| {library} | {', '.join(f'`{m}`' for m in sorted(homes))} |" for library, homes in HOMES.items()]
    return "\n".join(rows)


TABLES = {"tree": tree_table, "modules": module_table, "homes": home_table}


def with_tables(page: str) -> str:
    """Return a page with every generated table between its markers made anew."""

    def written(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n\n{TABLES[match[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", written, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), encoding="utf-8")
