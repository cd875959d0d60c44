"""DVC knows every module that a stage stands on: a changed helper reruns what it must."""

from pathlib import Path

import grimp
import pytest
import yaml
from conftest import ROOT

STAGES = ("ingest", "validate", "extract", "train", "evaluate")


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("earmark")


def declared(stage: str) -> list[Path]:
    definition = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    return [Path(path) for path in definition.get("do", definition)["deps"]]


def file_of(module: str) -> Path:
    path = Path("src", *module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_of_a_stage_cover_every_module_that_it_imports(graph, stage):
    module = f"earmark.stages.{stage}"
    imported = {file_of(name) for name in {module} | graph.find_upstream_modules(module)}
    bare = {
        path
        for path in imported
        if path.name == "__init__.py" and not graph.find_modules_directly_imported_by(_name(path))
    }
    missing = [path for path in imported - bare if not any(path.is_relative_to(dep) for dep in declared(stage))]
    assert not missing


def _name(path: Path) -> str:
    return ".".join(path.parent.relative_to("src").parts)


@pytest.mark.parametrize("stage", STAGES)
def test_every_dep_in_the_source_tree_exists(stage):
    assert all((ROOT / path).exists() for path in declared(stage) if path.is_relative_to("src"))
