"""Scores a saved model on real recordings, clean and with background noise, and prints what it finds as JSON.

Run as `python -m tests.benchmarks.scoring <model folder> <split>` in a project whose clips were accepted.
"""

import json
import sys
from pathlib import Path

from earmark import params
from earmark.evaluation import metrics, noise, test_set
from earmark.models import model_folder

SNR_DB = 10


def main(folder: Path, split: str) -> None:
    """Prints accuracy, its interval, accuracy in noise and size."""
    classifier = model_folder.load(folder)
    clips = test_set.read(params.load()).restricted_to(split)
    predictions = clips.predictions(classifier, [SNR_DB])
    noisy = predictions.assign(predicted=predictions[noise.column(SNR_DB)])
    print(
        json.dumps(
            metrics.summary(predictions, 1)
            | {
                "noisy_accuracy": metrics.accuracy(noisy),
                "parameters": classifier.parameters,
                "saved_bytes": (folder / model_folder.MODEL).stat().st_size,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
