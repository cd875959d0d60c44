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
            f"params.yaml: train.candidates names {candidate!r}; allowed are the modules in models/candidates"
        )
    return importlib.import_module(name)


def front_end_of(candidate: str) -> str:
    """The name of the front end that `candidate` listens through."""
    return module_of(candidate).FRONT_END


def batch_normalisation(**arguments):
    """Keras' layer, with running statistics of about the last ten batches.

    Keras' own default, a hundred, lags so far behind the weights that a network which has learnt looks for a dozen
    epochs of few steps as if it had not.
    """
    from keras import layers

    return layers.BatchNormalization(momentum=0.9, **arguments)
