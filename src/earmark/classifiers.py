"""The classifier that a command is given: a registered version, or a folder."""

import tempfile
from pathlib import Path

from earmark import params


def chosen(model: str | None):
    """The loaded Classifier of an address, models:/NAME@ALIAS or models:/NAME/VERSION, or of a folder that holds a
    model; the champion's without either. UserError where there is none."""
    from earmark.learning import model_folder

    if model and not model.startswith("models:/"):
        return model_folder.load(Path(model))
    from earmark.stores import tracking

    address = model or f"models:/{params.load().register_.name}@champion"
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        return model_folder.load(tracking.download_model(address, Path(folder)))
