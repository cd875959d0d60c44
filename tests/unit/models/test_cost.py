"""Multiply-adds against TensorFlow's own count, and what measuring time leaves behind."""

import os
import threading

import keras
import pytest
import tensorflow as tf
from keras import layers
from support.training import CANDIDATES, with_all_candidates
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from earmark import params
from earmark.features import front_ends
from earmark.models import cost, model_folder
from earmark.models.candidates import module_of


def counted_by_tensorflow(model: keras.Model) -> float:
    """Half the floating-point operations of products and convolutions for one clip."""
    function = tf.function(lambda inputs: model(inputs, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:]), tf.float32))
    graph = convert_variables_to_constants_v2(concrete).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options = tf.compat.v1.profiler.ProfileOptionBuilder(options).with_empty_output()
    profile = tf.compat.v1.profiler.profile(graph, cmd="op", options=options.build())
    return operations(profile) / 2


def operations(node) -> float:
    """Of `node` and all below it; the profile has a node's own and those below it in one number."""
    own = node.total_float_ops - sum(child.total_float_ops for child in node.children)
    is_product = node.name in ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2")
    return is_product * own + sum(map(operations, node.children))


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_multiply_adds_of_each_candidate_are_those_that_tensorflow_counts(candidate):
    loaded = with_all_candidates()
    front_end = front_ends.front_end(module_of(candidate).FRONT_END, loaded)
    settings = loaded.train.candidate(candidate).network
    network = module_of(candidate).build((front_end.frames, front_end.bins), 30, **settings)
    assert cost.multiply_adds(network) == pytest.approx(counted_by_tensorflow(network), rel=1e-3)


def test_multiply_adds_of_a_recurrence_count_every_step():
    model = keras.Sequential([layers.Input((98, 40)), layers.GRU(64), layers.Dense(12)])
    assert cost.multiply_adds(model) == 98 * (40 * 3 * 64 + 64 * 3 * 64) + 64 * 12


def test_a_model_on_waveforms_counts_the_network_inside_and_its_mel_bands(tmp_path):
    front_end = front_ends.front_end("log_mel", params.load())
    network = keras.Sequential([layers.Input((98, 40)), layers.Flatten(), layers.Dense(2)])
    model = model_folder.with_front_end(network, front_end)
    assert cost.multiply_adds(model) == 98 * 257 * 40 + 98 * 40 * 2


def test_one_core_is_one_core_for_every_thread_and_is_given_back():
    before = os.sched_getaffinity(0)
    inside, looked, leave, affinities = threading.Event(), threading.Event(), threading.Event(), {}

    def other() -> None:
        inside.wait()
        affinities["while"] = os.sched_getaffinity(0)
        looked.set()
        leave.wait()
        affinities["after"] = os.sched_getaffinity(0)

    thread = threading.Thread(target=other)
    thread.start()
    with cost.one_core():
        assert len(os.sched_getaffinity(0)) == 1
        born = threading.Thread(target=lambda: (leave.wait(), affinities.update(born=os.sched_getaffinity(0))))
        born.start()
        inside.set()
        assert looked.wait(60)
    leave.set()
    thread.join()
    born.join()
    assert len(affinities["while"]) == 1
    assert affinities["after"] == affinities["born"] == os.sched_getaffinity(0) == before
