"""DVC knows the modules that a stage stands on, and no others: a change reruns what it must, and nothing else."""

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
    found = set()
    for path in paths:
        assert (ROOT / path).exists(), path
        below = [file.relative_to(ROOT) for file in (ROOT / path).rglob("*") if "__pycache__" not in file.parts]
        found |= {file for file in [path, *below] if (ROOT / file).is_file()}
    return {file for file in found if (ROOT / file).read_bytes().strip()} - {PACKAGE / "__init__.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_it_imports(graph, stage):
    assert not needed(graph, stage) - declared(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_module_that_it_does_not_import(graph, stage):
    assert not declared(stage) - needed(graph, stage)
