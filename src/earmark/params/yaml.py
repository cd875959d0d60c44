"""YAML 1.2, which DVC reads and writes too: a label such as `no` is text, not a boolean."""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

__all__ = ["YAMLError", "dump", "load"]


def load(text: str) -> Any:
    """Parse a YAML document.

    Raises:
        YAMLError: the text is not YAML.
    """
    return YAML(typ="safe", pure=True).load(text)


def dump(value: object) -> str:
    """Format a value as a YAML document; mappings keep their order."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel.yaml annotates it as None
    document = io.StringIO()
    writer.dump(value, document)
    return document.getvalue()
