"""Candidates in other processes, and trained."""

import subprocess
import sys

import numpy as np
import pytest
from support.training import Unwatched, in_memory, with_all_candidates

from earmark.features import front_ends, numpy_backend
from earmark.models import model_folder
from earmark.models.candidates import module_of
from earmark.training import fitting


@pytest.fixture(scope="module")
def loaded():
    return with_all_candidates()


def test_a_saved_model_loads_where_earmark_is_not(loaded, tmp_path):
    front_end = front_ends.front_end("log_mel", loaded)
    settings = loaded.train.candidate("tc_resnet").network
    model = module_of("tc_resnet").build((front_end.frames, front_end.bins), 3, **settings)
    model_folder.save(tmp_path, model, front_end, ("a", "b", "c"), 0.5)
    script = (
        "import sys; sys.modules['earmark'] = None\n"
        "import keras, numpy\n"
        "model = keras.saving.load_model('model.keras', safe_mode=True)\n"
        "print(model.predict_on_batch(numpy.zeros((1, 16000), 'float32')).shape)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 3)", done.stderr


def test_a_network_on_mfcc_is_trained_on_stored_log_mel_and_answers_to_waveforms(loaded, tmp_path):
    front_end = front_ends.front_end("mfcc", loaded)
    assert (front_end.bins, front_end.stored) == (20, front_ends.front_end("log_mel", loaded))
    settings = loaded.train.candidate("tc_resnet").model_copy(update={"epochs": 3})
    waveforms = np.random.default_rng(2).normal(0, 0.1, (64, 16000)).astype(np.float32)
    waveforms[::2] = np.sin(np.arange(16000) / 4)
    (features,) = numpy_backend.features(waveforms, (front_end.stored,))
    examples = in_memory(features.astype(np.float16), np.arange(64) % 2)

    def build():
        return module_of("tc_resnet").build((front_end.frames, front_end.bins), 2, **settings.network)

    recipe = fitting.Recipe(build, front_end, np.empty((0, 40)), 2, settings, 1)
    model = build()
    model.set_weights(fitting.fit(recipe, examples, examples, Unwatched()).weights)
    model_folder.save(tmp_path, model, front_end, ("tone", "noise"), 0.5)
    (cepstra,) = numpy_backend.features(waveforms, (front_end,))
    answers = model_folder.load(tmp_path).model.predict_on_batch(waveforms)
    np.testing.assert_allclose(answers, model.predict_on_batch(cepstra), atol=1e-5)
