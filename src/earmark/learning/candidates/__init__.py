"""The candidates: one module each, with `FRONT_END` (its name) and `build(input_shape, labels, **network)`."""

import importlib
import importlib.util
from types import ModuleType

from earmark.errors import UserError


def module_of(candidate: str) -> ModuleType:
    """The module of `candidate`; UserError where there is none."""
    name = f"{__name__}.{candidate}"
    if not candidate.isidentifier() or importlib.util.find_spec(name) is None:
        raise UserError(
            f"params.yaml: train.candidates names {candidate!r}; allowed are the modules in learning/candidates"
        )
    return importlib.import_module(name)


def front_end_of(candidate: str) -> str:
    """The name of the front end that `candidate` listens through."""
    return module_of(candidate).FRONT_END
