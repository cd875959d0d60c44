"""The candidates as networks and as saved models."""

import json

import numpy as np
import pytest
from support.training import CANDIDATES, with_all_candidates

from earmark.errors import UserError
from earmark.features import front_ends, numpy_backend
from earmark.models import model_folder
from earmark.models.candidates import front_end_of, module_of


@pytest.fixture(scope="module")
def loaded():
    return with_all_candidates()


def network(loaded, candidate, labels=30):
    import keras

    keras.utils.set_random_seed(1)
    front_end = front_ends.front_end(front_end_of(candidate), loaded)
    settings = loaded.train.candidate(candidate).network
    return module_of(candidate).build((front_end.frames, front_end.bins), labels, **settings), front_end


def test_seed_cnn_is_the_tutorials_network(loaded):
    model, front_end = network(loaded, "seed_cnn")
    assert model.count_params() == 2_226_846
    assert (front_end.frames, front_end.bins) == (98, 257)


@pytest.mark.parametrize(("scale", "parameters"), [(1, 9_232), (8, 321_068)])
def test_bc_resnet_has_the_papers_parameters(scale, parameters):
    """Kim et al. 2021, table 1: 9.2k and 321k for the 12 labels of Speech Commands."""
    model = module_of("bc_resnet").build((98, 40), 12, scale=scale, dropout=0.1)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters


def test_bc_resnet_refuses_bands_that_it_cannot_divide():
    with pytest.raises(ValueError, match="64 bands; expected a multiple of 40"):
        module_of("bc_resnet").build((98, 64), 12, scale=1, dropout=0.1)


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_saved_model_answers_as_the_network_does(loaded, candidate, tmp_path):
    model, front_end = network(loaded, candidate, labels=3)
    waveforms = np.random.default_rng(2).normal(0, 0.1, (2, 16000)).astype(np.float32)
    model_folder.save(tmp_path, model, front_end, ("a", "b", "c d"), 0.5)
    saved = model_folder.load(tmp_path)
    (features,) = numpy_backend.features(waveforms, (front_end,))
    expected = model.predict_on_batch(features)
    np.testing.assert_allclose(saved.model.predict_on_batch(waveforms), expected, atol=1e-5)
    assert (saved.labels, saved.front_end, saved.candidate) == (("a", "b", "c d"), front_end, candidate)


def test_a_damaged_model_is_refused_in_a_sentence(loaded, tmp_path):
    model, front_end = network(loaded, "tc_resnet", labels=3)
    model_folder.save(tmp_path, model, front_end, ("a", "b", "c"), 0.5)
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(settings | {"labels": ["a", "b"]}))
    with pytest.raises(UserError, match=r"settings.json and model.keras are not as they were saved together"):
        model_folder.load(tmp_path)
    (tmp_path / "model.keras").write_bytes((tmp_path / "model.keras").read_bytes()[:1000])
    with pytest.raises(UserError, match="no model that can be read"):
        model_folder.load(tmp_path)
    with pytest.raises(UserError, match="holds no model"):
        model_folder.load(tmp_path / "absent")
