"""Accuracy by loudness and length."""

import numpy as np
import pandas as pd

from earmark.evaluation import slices


def test_clips_are_told_apart_by_loudness_and_by_length():
    frame = pd.DataFrame(
        [
            ("yes", "yes", "ann", 0.0, 1.0),
            ("yes", "no", "ann", 0.02, 0.3),
            ("no", "no", "ben", 0.02, 0.7),
            ("no", "no", "ben", 0.9, 2.0),
            ("_silence_", "yes", "hum", np.nan, np.nan),
        ],
        columns=["label", "predicted", "speaker", "rms", "seconds"],
    )
    table = slices.by_slice(frame, clip_seconds=1.0, seed=1).set_index(["slice", "band"])
    assert table["clips"].to_dict() == {
        ("loudness", "below -40 dBFS"): 1,
        ("loudness", "-40 to -30 dBFS"): 2,
        ("loudness", "above -20 dBFS"): 1,
        ("length", "below half a clip"): 1,
        ("length", "half to a whole"): 1,
        ("length", "a whole or longer"): 2,
    }
    assert table.loc[("loudness", "-40 to -30 dBFS"), "accuracy"] == 0.5
    assert table.loc[("loudness", "-40 to -30 dBFS"), "speakers"] == 2
    assert (table["low"] <= table["accuracy"]).all()
