"""The arrows between the rooms, what an import costs, and the list of packages."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import trine

ROOT = Path(trine.__file__).parent
ROOMS = ("compiler", "backends", "runtime", "cli")
OUTSIDE_OF_COMPILER = {"numpy", "ml_dtypes", "yaml", "networkx", "rich", "ruamel"}
DOORS = ("__init__.py", "api.py", "views.py", "reference.py", "files.py")


def modules() -> list[Path]:
    return [ROOT / door for door in DOORS] + [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path) -> list[tuple[str, int]]:
    """The absolute names a module imports, relative ones resolved from the package's root."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    folder = parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            prefix = ("trine", *base) if node.level else ()
            found.append((".".join([*prefix, *([node.module] if node.module else [])]), node.lineno))
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    forbidden = {
        "compiler": ("trine.backends", "trine.runtime", "trine.cli", "trine.api", "trine.views", "trine.reference"),
        "backends": ("trine.runtime", "trine.cli", "trine.api", "trine.views", "trine.reference"),
        "runtime": ("trine.cli", "trine.api", "trine.views", "trine.reference"),
    }.get(room, ())
    for name, line in imports(path):
        assert not name.startswith(forbidden), f"{path}:{line} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "compiler").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_compiler_imports_little(path: Path) -> None:
    for name, line in imports(path):
        top = name.split(".")[0]
        allowed = top in sys.stdlib_module_names or top == "trine" or top in OUTSIDE_OF_COMPILER
        assert allowed, f"{path}:{line} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_stay_in_their_files(path: Path) -> None:
    homes = {"torch": "backends/torch", "onnx": "backends/onnx", "onnxruntime": "backends/onnx"}
    where = path.relative_to(ROOT).as_posix()
    for name, line in imports(path):
        home = homes.get(name.split(".")[0])
        assert home is None or where.startswith(home), f"{path}:{line} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            # The one `exec` runs source that the backend itself wrote.
            allowed = node.func.id == "exec" and path.parent.name in ("numpy", "torch")
            assert allowed or node.func.id not in ("eval", "exec"), f"{path}:{node.lineno}"
    assert not any(name.split(".")[0] in ("pickle", "joblib", "shelve", "marshal") for name, _ in imports(path))


def modules_loaded_by(code: str) -> set[str]:
    script = f"import sys; {code}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def loaded_by(code: str) -> set[str]:
    return {name.split(".")[0] for name in modules_loaded_by(code)}


def test_import_trine_loads_next_to_nothing() -> None:
    assert not loaded_by("import trine") & {"torch", "onnx", "onnxruntime", "sklearn", "numpy", "matplotlib"}


def test_checking_loads_no_heavy_package() -> None:
    code = "from trine.runtime.specs import open_spec; open_spec('zoo:vision/digits-cnn')"
    assert not loaded_by(code) & {"torch", "onnx", "onnxruntime", "sklearn", "scipy", "matplotlib"}


# What takes milliseconds to import and what a right spec has no use for: drawing, writing, guessing, sorting steps.
SELDOM_NEEDED = {
    "rich", "ruamel", "networkx", "safetensors", "difflib", "tempfile", "email", "importlib.metadata",
    "importlib.resources", "trine.views", "trine.reference", "trine.runtime.checkpoints", "trine.runtime.session",
}  # fmt: skip


def test_a_check_loads_what_it_needs_alone() -> None:
    code = "sys.argv = ['trine', 'check', 'zoo:vision/digits-mlp']; from trine.cli import main; main()"
    loaded = modules_loaded_by(code)
    assert "trine.compiler.build.model" in loaded
    assert not loaded & SELDOM_NEEDED


def test_what_loads_models_asks_for_no_versions() -> None:
    """`importlib.metadata` brings in the parsers of mail and the sockets they need."""
    loaded = modules_loaded_by("import trine.runtime.model, trine.backends.numpy")
    assert not loaded & {"rich", "email", "importlib.metadata", "tempfile", "difflib"}


def test_frozen_dataclasses_are_few_in_the_compiler() -> None:
    """Each costs a millisecond of every start. Those of which there are thousands are worth it; others are Structs."""
    found = set()
    for path in (ROOT / "compiler").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any("frozen=True" in ast.unparse(d) for d in node.decorator_list):
                found.add(node.name)
    assert found == {"Span", "Node", "Entry", "Call", "Type", "Origin"}


def test_no_module_is_loaded_twice() -> None:
    files: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(ROOT) and "tests" not in Path(file).parts and ".venv" not in file:
            assert files.setdefault(file, name) == name


def test_every_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {p.parent for room in ROOMS for p in (ROOT / room).rglob("__init__.py")}
    found = {"trine", *("trine." + ".".join(f.relative_to(ROOT).parts) for f in folders)}
    assert listed == found


def test_the_public_names_exist() -> None:
    for name in trine.__all__:
        assert getattr(trine, name).__doc__, name
    with pytest.raises(AttributeError):
        trine.nothing_of_the_kind


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_every_module_is_tracked() -> None:
    """A pattern in .gitignore can swallow a folder of ours unseen."""
    command = ["git", "check-ignore", *(str(path.relative_to(ROOT)) for path in modules())]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == ""


@pytest.mark.parametrize("module", ["specs", "model", "session", "artefacts"])
def test_whatever_opens_specs_knows_all_names(module: str) -> None:
    """A registry that is filled only by chance makes right specs look wrong."""
    script = (
        f"import trine.runtime.{module}; from trine.compiler.spec.registry import REGISTRIES; "
        "print(*(r.noun for r in REGISTRIES if not r._entries))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
