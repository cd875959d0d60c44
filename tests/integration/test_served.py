"""What is served stands alone: a registered model imports what it declares, what it carries, and Python's own."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from earmark.tracking.pyfunc import DECODER, PACKAGE, REQUIREMENTS, SCRIPT

TYPING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
DISTRIBUTIONS = packages_distributions()
"""By the name that is imported: "sklearn" is of scikit-learn."""


def module_of(name: str) -> str:
    """The module that a file of the package is, by its path there: "audio/decode.py" is earmark.audio.decode."""
    parts = Path(name).with_suffix("").parts
    return ".".join(("earmark", *parts[: -1 if parts[-1] == "__init__" else None]))


CARRIED = {module_of(name): name for name in DECODER}


def imported(source: str, package: str = "") -> Iterator[str]:
    """Modules that the source of a module in `package` imports when it runs, wherever in it. Of `from a import b` it is
    a.b where that is a module of earmark, else a."""
    for node in _run(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for inner in (f"{base}.{alias.name}" for alias in node.names):
                yield inner if _is_module_of_earmark(inner) else base


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes below `tree` but for what type checkers alone see."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in TYPING:
            yield from _run(ast.Module(node.orelse, []))
        else:
            yield from _run(node)


def _is_module_of_earmark(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return name.partition(".")[0] == "earmark" and (path.is_dir() or path.with_suffix(".py").is_file())


def undeclared(source: str, package: str = "", carried: frozenset[str] = frozenset()) -> set[str]:
    """Modules that the source imports and that are neither Python's, nor of a declared requirement, nor `carried`."""
    return {
        name
        for name in imported(source, package)
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names
        and not set(DISTRIBUTIONS.get(top, ())) & set(REQUIREMENTS)
        and name not in carried
    }


def test_the_script_imports_nothing_that_a_model_does_not_declare():
    """Not even what it carries, which is nowhere on the path when MLflow runs it."""
    assert undeclared(SCRIPT.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("module", CARRIED)
def test_what_a_model_carries_imports_nothing_that_it_neither_declares_nor_carries(module):
    name = CARRIED[module]
    package = module if name.endswith("__init__.py") else module.rpartition(".")[0]
    assert package in CARRIED
    assert undeclared((PACKAGE / name).read_text(encoding="utf-8"), package, frozenset(CARRIED)) == set()


def test_every_requirement_is_imported():
    """But for TensorFlow, which Keras computes with, and which a model declares beside these."""
    sources = [SCRIPT.read_text(encoding="utf-8"), *((PACKAGE / name).read_text(encoding="utf-8") for name in DECODER)]
    imports = {name.partition(".")[0] for source in sources for name in imported(source, "earmark.audio")}
    assert set(REQUIREMENTS) <= imports


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import scipy.signal as signal, numpy, json", {"scipy.signal"}),
        ("def later():\n    with open('x'):\n        from sklearn import metrics", {"sklearn"}),
        ("try:\n    import yaml\nexcept ImportError:\n    yaml = None", {"yaml"}),
        ("import nowhere_to_be_found", {"nowhere_to_be_found"}),
        ("from mlflow.exceptions import MlflowException\nimport soundfile, soxr, keras", set()),
        ("from earmark.errors import UserError", {"earmark.errors"}),
        ("from earmark.audio import pcm16, stream", {"earmark.audio.stream"}),
        ("from . import stream, padding", {"earmark.audio.stream"}),
        ("from .padding import fit\nfrom ..params import Padding", {"earmark.params"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from earmark.params import Padding", set()),
        ("if TYPE_CHECKING:\n    import scipy\nelse:\n    import yaml", {"yaml"}),
    ],
)
def test_an_import_that_a_server_would_not_find_is_found_here(source, expected):
    assert undeclared(source, "earmark.audio", frozenset(CARRIED)) == expected
