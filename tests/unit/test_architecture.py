"""DVC knows the modules that a stage stands on, and no others: a change reruns what it must, and nothing else.

Paths of the project are spelled in paths.py, and numbers are formatted in reporting."""

import ast
import re
from pathlib import Path

import grimp
import pytest
import yaml
from conftest import ROOT

STAGES = ("ingest", "validate", "extract", "train", "evaluate")
PACKAGE = Path("src/earmark")
PAGE = PACKAGE / "reporting/html"
READ_BY_NAME = {
    "validate": {PAGE / "page.css", PAGE / "rules.html.jinja", PAGE / "validation.html.jinja"},
    "extract": {PACKAGE / "models/candidates"},
    "train": {PACKAGE / "models/candidates", PACKAGE / "models/serving.py"},
    "evaluate": {
        PAGE / "charts.js",
        PAGE / "macros.html.jinja",
        PAGE / "page.css",
        PAGE / "rules.html.jinja",
        PAGE / "sections",
        PAGE / "template.html.jinja",
    },
}
"""What a stage reads without an import statement: templates, candidates, the script that travels with a model."""
OWN_PATH = re.compile(
    r"^(\w*[:.!])?(data|reports|models|logs|tuning|checkpoints|downloads)/|(^|/)(dvc\.lock|mlflow\.db|params\.yaml)$"
)
"""A path of the project, also behind a prefix such as `dvc:` or `sqlite:///`."""
PATHS_ELSEWHERE = {
    "src/earmark/paths.py": "where they belong",
    "src/earmark/params/__init__.py": "lies below paths, and names the file that it reads",
}
FORMATTED_ELSEWHERE = {
    "src/earmark/audio/decode.py": "travels with a model, without the rest of earmark",
    "src/earmark/models/serving.py": "travels with a model, without the rest of earmark",
    "src/earmark/params/__init__.py": "lies below reporting",
    "src/earmark/io/progress.py": "lies below reporting",
    "src/earmark/dataset/sources/synthetic.py": "names of speakers, padded",
    "src/earmark/evaluation/test_set.py": "ids of clips, padded",
    "src/earmark/training/search.py": "rounds a value that is used",
    "src/earmark/stages/register.py": "tags in MLflow, which are compared as text",
}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("earmark", exclude_type_checking_imports=True, cache_dir=None)


def declared(stage: str) -> set[Path]:
    """Files of the package that dvc.yaml names as dependencies of `stage`, those in folders among them."""
    definition = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    return files(Path(path) for path in definition.get("do", definition)["deps"] if path.startswith("src/"))


def needed(graph, stage: str) -> set[Path]:
    """Files that a stage imports, at whatever depth, or reads by name."""
    module = f"earmark.stages.{stage}"
    imported = (file_of(name) for name in {module} | graph.find_upstream_modules(module))
    return files([*imported, *READ_BY_NAME.get(stage, ())])


def file_of(module: str) -> Path:
    path = Path("src", *module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def files(paths) -> set[Path]:
    """The files at `paths` and below; without packages' empty __init__.py, and the docstring of the outermost."""
    existing = set()
    for path in paths:
        assert (ROOT / path).exists(), path
        below = [file.relative_to(ROOT) for file in (ROOT / path).rglob("*") if "__pycache__" not in file.parts]
        existing |= {file for file in [path, *below] if (ROOT / file).is_file()}
    return {file for file in existing if (ROOT / file).read_bytes().strip()} - {PACKAGE / "__init__.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_it_imports(graph, stage):
    assert not needed(graph, stage) - declared(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_module_that_it_does_not_import(graph, stage):
    assert not declared(stage) - needed(graph, stage)


def sources() -> list[Path]:
    return sorted(
        path.relative_to(ROOT) for folder in (PACKAGE, Path("flows")) for path in (ROOT / folder).rglob("*.py")
    )


def nodes(path: Path) -> list[ast.AST]:
    """The syntax of a file without its docstrings."""
    tree = list(ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))))
    docstrings = {node.value for node in tree if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    return [node for node in tree if node not in docstrings]


def test_paths_of_the_project_are_spelled_in_one_module():
    violations = [
        f"{path}:{node.lineno}: {node.value!r}"
        for path in sources()
        if path.as_posix() not in PATHS_ELSEWHERE
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and OWN_PATH.search(node.value)
    ]
    assert violations == []


def test_numbers_are_formatted_in_reporting():
    violations = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path in sources()
        if not path.is_relative_to(PACKAGE / "reporting") and path.as_posix() not in FORMATTED_ELSEWHERE
        for node in nodes(path)
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None
    ]
    assert violations == []
