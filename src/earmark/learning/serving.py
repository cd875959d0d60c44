"""The script that MLflow runs to load a registered model. It needs Keras and TensorFlow, and nothing of earmark."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd


class WaveformClassifier(mlflow.pyfunc.PythonModel):
    """Waveforms, float32 (clips, samples) in [-1, 1], to one row a clip: `label` and its `probability`."""

    def load_context(self, context) -> None:
        """Loads the model in Keras' safe mode, and its labels."""
        import keras

        folder = Path(context.artifacts["model"])
        self._model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
        self._labels = json.loads((folder / "settings.json").read_text(encoding="utf-8"))["labels"]

    def predict(self, context, model_input, params=None) -> pd.DataFrame:
        """The most probable label of each clip."""
        probabilities = self._model.predict(np.asarray(model_input, dtype=np.float32), verbose=0)
        best = probabilities.argmax(axis=1)
        return pd.DataFrame(
            {"label": [self._labels[i] for i in best], "probability": probabilities.max(axis=1).astype(float)}
        )


mlflow.models.set_model(WaveformClassifier())
