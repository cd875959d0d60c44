"""Real speech: an excerpt of Speech Commands, where it is at hand, through `dvc repro`."""

import pandas as pd
import pytest
from conftest import ROOT, candidates, checkout

ARCHIVE = ROOT.parent / "shared/data/speech_commands_v0.01_excerpt.tar.gz"
LARGE_WORDS = ["bed", "cat", "down", "go", "happy", "left", "no", "right", "stop", "up", "yes"]


@pytest.mark.slow
@pytest.mark.skipif(not ARCHIVE.exists(), reason="the excerpt of real recordings is not beside the checkout")
def test_tc_resnet_gets_nine_in_ten_words_of_unheard_speakers_right(tmp_path, run):
    changes = {"dataset": {"source": str(ARCHIVE)}, "train": {"candidates": candidates("tc_resnet"), "epochs": 12}}
    folder = checkout(tmp_path, changes)
    done = run(folder, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    predictions = pd.read_csv(folder / "reports/predictions.csv", keep_default_na=False)
    test = predictions[(predictions["split"] == "test") & predictions["label"].isin(LARGE_WORDS)]
    assert len(test) > 700
    assert (test["label"] == test["predicted"]).mean() >= 0.90
    assert pd.read_csv(folder / "data/quarantine/quarantined.csv")["reason"].notna().all()
