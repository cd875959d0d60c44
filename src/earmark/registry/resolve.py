"""The classifier that a command is given: a registered version, or a folder."""

import os
import re
import tempfile
from pathlib import Path

from earmark import params
from earmark.errors import UserError

ADDRESS = re.compile(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))")


def chosen(model: str | None):
    """The loaded Classifier of what `folder_of` takes, or of the champion; UserError where there is none."""
    from earmark.models import model_folder

    with tempfile.TemporaryDirectory(prefix="earmark-") as temporary:
        return model_folder.load(folder_of(model or "champion", Path(temporary)))


def folder_of(model: str, temporary: Path) -> Path:
    """The model folder of a folder's path, of a version or an alias of register.name, or of MLflow's address of one,
    models:/NAME/VERSION or models:/NAME@ALIAS.

    What is registered is below `temporary`, and whole, as it was registered; UserError where it cannot be had.
    """
    if model.startswith("models:"):
        found = ADDRESS.fullmatch(model)
        if not found:
            raise UserError(f"{model} is no address of a version; allowed are models:/NAME/VERSION, models:/NAME@ALIAS")
        name, wanted = found[1], found[2] or found[3]
    elif os.sep in model or model in (os.curdir, os.pardir):
        return Path(model)
    else:
        name, wanted = params.load().register_.name, model
    from earmark.registry.versions import open_registry

    registry = open_registry(name)
    try:
        number = registry.find(wanted).number
    except UserError as error:
        hint = f"; the folder of this name is written ./{wanted}" if Path(wanted).is_dir() else ""
        raise UserError(f"{error}{hint}") from None
    return registry.download(number, temporary)
