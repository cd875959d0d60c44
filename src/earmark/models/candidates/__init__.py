"""The candidates: one module each, with `FRONT_END` (its name) and `build(input_shape, labels, **network)`."""

import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING

from earmark.errors import UserError

if TYPE_CHECKING:
    import keras


def module_of(candidate: str) -> ModuleType:
    """Imports the module of `candidate`.

    Raises:
        UserError: there is no such module.
    """
    name = f"{__name__}.{candidate}"
    if not candidate.isidentifier() or importlib.util.find_spec(name) is None:
        raise UserError(
            f"params.yaml: train.candidates: {candidate!r} is no candidate; expected a module in models/candidates"
        )
    return importlib.import_module(name)


def front_end_of(candidate: str) -> str:
    """The name of the front end that `candidate` uses."""
    name: str = module_of(candidate).FRONT_END
    return name


def batch_normalisation(**arguments: str | bool) -> "keras.layers.BatchNormalization":
    """Returns Keras' layer with running statistics over about the last ten batches.

    Keras' default is a hundred. With few steps an epoch, such statistics lag behind the weights, and a network that
    has learnt looks untrained in validation for a dozen epochs.
    """
    from keras import layers

    return layers.BatchNormalization(momentum=0.9, **arguments)
