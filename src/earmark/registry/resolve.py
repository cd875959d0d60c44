"""Finds the classifier that a command is given: a registered version, or a folder."""

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from earmark import params
from earmark.errors import UserError

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier

ADDRESS = re.compile(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))")


def load_classifier(model: str | None) -> "Classifier":
    """Loads the classifier `model`, which `folder_of` finds, or else the champion.

    Raises:
        UserError: there is no such model, or it cannot be loaded.
    """
    from earmark.models import model_folder

    with tempfile.TemporaryDirectory(prefix="earmark-") as temporary:
        return model_folder.load(folder_of(model or "champion", Path(temporary)))


def folder_of(model: str, temporary: Path) -> Path:
    """Returns the model folder that `model` names; a registered version is downloaded to a place below `temporary`.

    `model` is the path of a folder, a version number or alias of the model register.name, or MLflow's address of a
    version: models:/NAME/VERSION or models:/NAME@ALIAS.

    Raises:
        UserError: there is no such version, or its files are gone or have changed.
    """
    if model.startswith("models:"):
        address = ADDRESS.fullmatch(model)
        if not address:
            raise UserError(f"{model} is no address of a version; expected models:/NAME/VERSION or models:/NAME@ALIAS")
        name, number_or_alias = address[1], address[2] or address[3]
    elif os.sep in model or model in (os.curdir, os.pardir):
        return Path(model)
    else:
        name, number_or_alias = params.load().register_.name, model
    from earmark.registry.versions import open_registry

    registry = open_registry(name)
    try:
        number = registry.find(number_or_alias).number
    except UserError as error:
        hint = f"; the folder of this name is written ./{number_or_alias}" if Path(number_or_alias).is_dir() else ""
        raise UserError(f"{error}{hint}") from None
    return registry.download(number, temporary)
