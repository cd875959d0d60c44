"""Logs a model to MLflow so that it can be served without earmark: the serving script, the model, and the decoder."""

import base64
import io
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import soundfile
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import Map

from earmark.io.quiet_stderr import quiet_stderr

REQUIREMENTS = ("keras", "mlflow", "numpy", "pandas", "soundfile", "soxr")
PACKAGE = Path(__file__).parents[1]
SCRIPT = PACKAGE / "models" / "serving.py"
DECODER = ("__init__.py", "audio/__init__.py", "audio/decode.py", "audio/padding.py", "audio/pcm16.py")
"""Files of earmark that decode a recording; they import no other file of earmark."""
SIGNATURE = ModelSignature(
    outputs=Schema(
        [
            ColSpec("string", "label"),
            ColSpec("double", "probability"),
            ColSpec("boolean", "accepted"),
            ColSpec(Map("double"), "probabilities"),
        ]
    )
)
"""Outputs only: an input schema allows either columns or one array, and the script takes both."""


def log_model(folder: Path) -> None:
    """Logs the model in `folder` to the current MLflow run."""
    # MLflow recommends type hints, which it does not have for arrays, and no warning filter stops that.
    with tempfile.TemporaryDirectory(prefix="earmark-") as temporary, quiet_stderr():
        code = Path(temporary) / "decoder"
        for name in DECODER:
            target = code / "earmark" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PACKAGE / name, target)
        mlflow.pyfunc.log_model(
            name=folder.name,
            python_model=str(SCRIPT),
            artifacts={"model": str(folder), "code": str(code)},
            signature=SIGNATURE,
            input_example=pd.DataFrame({"wav": [base64.b64encode(_silence()).decode()]}),
            pip_requirements=[*(f"{name}=={version(name)}" for name in REQUIREMENTS), f"tensorflow=={_tensorflow()}"],
        )


def _tensorflow() -> str:
    """TensorFlow's version, from whichever of its packages is installed."""
    import tensorflow

    return str(tensorflow.__version__)


def _silence() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(800, np.int16), 8000, format="WAV", subtype="PCM_16")
    return file.getvalue()
