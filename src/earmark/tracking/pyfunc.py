"""What MLflow keeps of a model, so that it can be served where there is no earmark: the script that answers, the model,
and the code that decodes recordings."""

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

from earmark.io.quiet_stderr import remarks_aside

REQUIREMENTS = ("keras", "mlflow", "numpy", "pandas", "soundfile", "soxr")
PACKAGE = Path(__file__).parents[1]
SCRIPT = PACKAGE / "models" / "serving.py"
DECODER = ("__init__.py", "audio/__init__.py", "audio/decode.py", "audio/padding.py", "audio/pcm16.py")
"""Files of earmark that decode a recording; they import no other of it."""
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
"""Of answers only: MLflow's schema of inputs knows columns or one array, and the script takes both."""


def log_model(folder: Path) -> None:
    """Adds the model in `folder` to the present MLflow run."""
    # MLflow advises type hints, which it has none of for arrays, past any warning filter.
    with tempfile.TemporaryDirectory(prefix="earmark-") as temporary, remarks_aside():
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
    """Its version, whichever of its packages is installed here."""
    import tensorflow

    return tensorflow.__version__


def _silence() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(800, np.int16), 8000, format="WAV", subtype="PCM_16")
    return file.getvalue()
