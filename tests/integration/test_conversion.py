"""Classifiers as files for other runtimes, each run in its own, against the Keras model."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
from support.training import CANDIDATES, with_all_candidates

from earmark.errors import UserError
from earmark.features import front_ends, numpy_backend
from earmark.models import backend, conversion, model_folder, runtimes
from earmark.models.candidates import front_end_of, module_of

LABELS = ("left", "right", "good morning")
QUICK = tuple(candidate for candidate in CANDIDATES if candidate != "bc_resnet")
"""Those that are converted in seconds."""


@pytest.fixture(scope="module")
def loaded():
    return with_all_candidates()


@pytest.fixture(scope="module")
def clips():
    """A silent clip, a loud one, and quieter and quieter noise."""
    noise = np.random.default_rng(1).uniform(-1, 1, (16, 16000)) * np.logspace(0, -4, 16)[:, None]
    return np.concatenate([np.zeros((1, 16000)), np.sign(noise[:1]), noise]).astype(np.float32)


def classifier_of(network, front_end, clips) -> model_folder.Classifier:
    """`network` with weights of which none is what it is at first, so that each counts, and a last layer that tells
    `clips` apart."""
    import keras

    generator = np.random.default_rng(2)
    for weight in network.weights:
        if weight.path.endswith("moving_variance"):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(weight + generator.normal(0, 0.02, weight.shape))
    last = network.layers[-1]
    before = model_folder.with_front_end(keras.Model(network.inputs, last.input, name="before"), front_end)
    logits = before.predict_on_batch(clips) @ np.asarray(last.kernel)
    last.kernel.assign(np.asarray(last.kernel) / logits.std(axis=0))
    last.bias.assign(-(logits / logits.std(axis=0)).mean(axis=0))
    model = model_folder.with_front_end(network, front_end)
    return model_folder.Classifier(model, network.name, LABELS, front_end, network.count_params(), 0.0)


def candidate_classifier(loaded, candidate: str, clips) -> model_folder.Classifier:
    backend.start(1)
    network, front_end = network_of(loaded, candidate)
    return classifier_of(network, front_end, clips)


def network_of(loaded, candidate: str):
    """Its network as it is before training, and what it listens through."""
    front_end = front_ends.front_end(front_end_of(candidate), loaded)
    settings = loaded.train.candidate(candidate).network
    return module_of(candidate).build((front_end.frames, front_end.bins), len(LABELS), **settings), front_end


def taught(loaded, candidate: str) -> tuple[model_folder.Classifier, np.ndarray]:
    """A classifier that has learnt to tell low tones from middle and high ones, and the clips that it learnt from."""
    import keras

    keras.utils.set_random_seed(1)
    generator = np.random.default_rng(1)
    hertz = np.concatenate([generator.uniform(low, 2 * low, 8) for low in (200, 1000, 3000)])[:, None]
    tones = 0.3 * np.sin(2 * np.pi * hertz * np.arange(16000) / 16000)
    clips = (tones + generator.normal(0, 0.02, tones.shape)).astype(np.float32)
    network, front_end = network_of(loaded, candidate)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5  # a few steps are all that there are
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    (features,) = numpy_backend.features(clips, (front_end,))
    network.fit(np.asarray(features), np.repeat(np.arange(3), 8), batch_size=24, epochs=15, verbose=0)
    model = model_folder.with_front_end(network, front_end)
    return model_folder.Classifier(model, candidate, LABELS, front_end, network.count_params(), 0.0), clips


@pytest.fixture(scope="module")
def classifier_called(loaded, clips) -> Callable[[str], model_folder.Classifier]:
    """The classifier of a candidate, made once."""
    return functools.cache(lambda candidate: candidate_classifier(loaded, candidate, clips))


@pytest.fixture(scope="module")
def file_of(classifier_called, clips) -> Callable[[str, str], bytes]:
    """The file of a candidate's classifier in a format, made once."""
    return functools.cache(
        lambda candidate, format: conversion.convert(classifier_called(candidate), format, lambda: clips)
    )


@pytest.mark.parametrize("format", ["litert", "onnx"])
@pytest.mark.parametrize("candidate", [*QUICK, pytest.param("bc_resnet", marks=pytest.mark.slow)])
def test_a_converted_classifier_says_what_the_model_says(classifier_called, file_of, clips, candidate, format):
    output = runtimes.open_runtime(file_of(candidate, format), format).predict_on_batch(clips)
    expected = classifier_called(candidate).model.predict_on_batch(clips)
    assert output.dtype == np.float32
    assert np.ptp(expected, axis=0).max() > 0.1  # it does tell these clips apart
    np.testing.assert_allclose(output, expected, atol=0.02)  # bc_resnet's rounding, in a last layer that blows it up


@pytest.mark.parametrize("candidate", QUICK)
def test_candidates_can_be_had_in_eight_bit_integers(classifier_called, file_of, clips, candidate):
    classifier, content = classifier_called(candidate), file_of(candidate, "litert-int8")
    output = runtimes.open_runtime(content, "litert-int8").predict_on_batch(clips)
    expected = classifier.model.predict_on_batch(clips)
    assert len(content) < 0.4 * 4 * classifier.parameters
    np.testing.assert_allclose(output, expected, atol=0.1)
    assert np.corrcoef(output.ravel(), expected.ravel())[0, 1] > 0.9


@pytest.mark.slow
def test_bc_resnet_can_be_had_in_eight_bit_integers_too(loaded):
    """Before it has learnt anything, rounding is all that tells clips apart; and what describes the graph fills its
    file."""
    backend.start(1)
    classifier, clips = taught(loaded, "bc_resnet")
    content = conversion.convert(classifier, "litert-int8", lambda: clips)
    output = runtimes.open_runtime(content, "litert-int8").predict_on_batch(clips)
    expected = classifier.model.predict_on_batch(clips)
    np.testing.assert_allclose(output, expected, atol=0.3)
    assert np.corrcoef(output.ravel(), expected.ravel())[0, 1] > 0.9


def test_the_network_is_in_integers_and_the_front_end_is_not(file_of):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file_of("tc_resnet", "litert-int8"))
    types = {tensor["name"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    convolved = {kind for name, kind in types.items() if "conv1d" in name and "convolution" in name}
    assert np.int8 in convolved
    assert np.float32 not in convolved
    assert {kind for name, kind in types.items() if "/stft/" in name} <= {np.float32, np.complex64, np.int32}
    ends = interpreter.get_input_details() + interpreter.get_output_details()
    assert [tensor["dtype"] for tensor in ends] == [np.float32, np.float32]


@pytest.mark.parametrize("format", ["litert", "litert-int8"])
def test_the_same_classifier_gives_the_same_bytes(classifier_called, file_of, clips, format):
    again = conversion.convert(classifier_called("tc_resnet"), format, lambda: clips)
    assert again == file_of("tc_resnet", format)


@pytest.fixture(scope="module")
def half_precision(loaded, clips) -> model_folder.Classifier:
    with backend.precision("mixed_bfloat16"):
        return candidate_classifier(loaded, "tc_resnet", clips)


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_what_was_trained_in_half_precision_is_converted_in_full(half_precision, clips, format):
    content = conversion.convert(half_precision, format, lambda: clips)
    output = runtimes.open_runtime(content, format).predict_on_batch(clips)
    expected = half_precision.model.predict_on_batch(clips)
    assert np.corrcoef(output.ravel(), expected.ravel())[0, 1] > 0.95


def linear_on_coefficients(loaded, clips, fft_length: int) -> model_folder.Classifier:
    """Through a front end that no candidate has."""
    backend.start(1)
    import keras

    features = loaded.features.model_copy(update={"fft_length": fft_length})
    front_end = front_ends.front_end("mfcc", loaded.model_copy(update={"features": features}))
    shape = (front_end.frames, front_end.bins)
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    return classifier_of(keras.Sequential(layers, name="linear"), front_end, clips)


@pytest.mark.parametrize(("format", "fft_length"), [("litert", 1024), ("litert-int8", 1024), ("onnx", 480)])
def test_cepstral_coefficients_and_other_transforms_are_converted_too(loaded, clips, format, fft_length):
    classifier = linear_on_coefficients(loaded, clips, fft_length)
    content = conversion.convert(classifier, format, lambda: clips)
    output = runtimes.open_runtime(content, format).predict_on_batch(clips)
    np.testing.assert_allclose(output, classifier.model.predict_on_batch(clips), atol=0.2 if "int8" in format else 1e-3)


@pytest.mark.parametrize("format", ["litert", "litert-int8"])
def test_an_fft_that_litert_does_not_know_is_refused_in_a_sentence(loaded, clips, format):
    classifier = linear_on_coefficients(loaded, clips, 480)
    with pytest.raises(
        UserError, match=f"{format}: an FFT of length 480 is not supported; expected a power of two, or onnx"
    ):
        conversion.convert(classifier, format, lambda: clips)


def test_a_network_that_a_format_has_no_operation_for_is_refused_in_a_sentence(loaded):
    import keras

    front_end = front_ends.front_end("log_mel", loaded)
    features = keras.Input((front_end.frames, front_end.bins))
    values, _ = keras.ops.qr(features[:, :3, :3])
    network = keras.Model(features, keras.ops.softmax(values[:, 0, :]), name="by_factors")
    model = model_folder.with_front_end(network, front_end)
    classifier = model_folder.Classifier(model, "by_factors", LABELS, front_end, 0, 0.0)
    with pytest.raises(UserError, match="by_factors cannot be converted to litert: "):
        conversion.convert(classifier, "litert", list)


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_a_file_that_was_cut_short_is_refused(file_of, format):
    content = file_of("tc_resnet", format)
    with pytest.raises(UserError, match=f"this {format} file cannot be run"):
        runtimes.open_runtime(content[: len(content) // 2], format)
