"""YAML as DVC reads and writes it: version 1.2, in which the label no is text."""

import io

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

__all__ = ["YAMLError", "dumped", "loaded"]


def loaded(text: str) -> object:
    """The value of a YAML document; YAMLError where it is none."""
    return YAML(typ="safe", pure=True).load(text)


def dumped(value: object) -> str:
    """A value as a YAML document, mappings in the order that they have."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style, writer.sort_base_mapping_type_on_output = False, False
    document = io.StringIO()
    writer.dump(value, document)
    return document.getvalue()
