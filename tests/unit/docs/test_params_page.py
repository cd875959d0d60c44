"""docs/params.md is generated, and covers every parameter."""

from conftest import ROOT

from earmark.params import yaml
from earmark.reporting import params_markdown

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def leaves(values: dict, before: str = "") -> set[str]:
    """Keys of params.yaml that hold a value, or settings of any name."""
    keys = set()
    for key, value in values.items():
        path = f"{before}{key}"
        is_section = isinstance(value, dict) and path not in ("split.fractions", "train.candidates", "tune.ranges")
        keys |= leaves(value, f"{path}.") if is_section and set(value) != {"min", "max"} else {path}
    return keys


def test_the_committed_page_is_what_make_docs_writes():
    committed = (ROOT / "docs/params.md").read_text(encoding="utf-8")
    assert committed == params_markdown.page(TEXT), "docs/params.md is stale; run 'make docs'"


def test_every_parameter_of_params_yaml_has_a_row_with_its_meaning():
    values = yaml.load(TEXT)
    page = params_markdown.page(TEXT)
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert leaves(values) <= rows.keys()
    described = leaves(values) - {f"features.{name}" for name in named(values["features"])}
    assert all(not rows[key].endswith("|  |") for key in described), "a comment in params.yaml is missing"


def named(features: dict) -> set[str]:
    """Keys of the front ends that one comment describes for all."""
    return {f"{name}.{key}" for name, own in features.items() if isinstance(own, dict) for key in own}


def test_a_new_value_is_in_the_page():
    page = params_markdown.page(TEXT.replace("speakers: 40 ", "speakers: 41 "))
    assert "| `dataset.speakers` | whole number | at least 6, at most 1000 | `41` |" in page
