"""Converts a classifier, front end included, to one file for another runtime: LiteRT, LiteRT with the network in 8-bit
integers, or ONNX."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from earmark.errors import UserError
from earmark.io.quiet_stderr import quiet_stderr
from earmark.models.model_folder import Classifier

if TYPE_CHECKING:
    import keras
    from tf2onnx.graph import Graph, Node

    Handler = Callable[[Graph, Node, str, object], None]

Result = TypeVar("Result")
FORMATS = {"litert": "model.tflite", "litert-int8": "model.tflite", "onnx": "model.onnx"}
"""The formats, and the name of the file in each."""
INPUT = "waveform"
ONNX_OPSET = 17
"""The first opset with DFT; older runtimes support it too."""


def convert(classifier: Classifier, format: str, clips: Callable[[], Iterable[np.ndarray]]) -> bytes:
    """Returns the file of `classifier` in one of FORMATS.

    `clips` gives training clips, float32 (samples,), which set the ranges of 8-bit integers. The bytes are the same
    each time, except for ONNX, whose converter names and orders nodes by the order of sets.

    Raises:
        UserError: the format lacks an operation of the front end or the network.
    """
    fft_length = classifier.front_end.fft_length
    if format != "onnx" and fft_length & (fft_length - 1):
        raise UserError(f"{format}: an FFT of length {fft_length} is not supported; expected a power of two, or onnx")
    writers: dict[str, Callable[[Classifier], bytes]] = {
        "litert": litert,
        "onnx": onnx,
        "litert-int8": lambda float32: litert_int8(float32, clips()),
    }
    write = writers[format]
    return call_quietly(
        lambda: write(_in_float32(classifier)), f"{classifier.candidate} cannot be converted to {format}"
    )


def call_quietly(function: Callable[[], Result], failure: str) -> Result:
    """Returns the result of `function`, and drops what converters and runtimes write to the terminal.

    Raises:
        UserError: the function has failed; the text begins with `failure`.
    """
    with quiet_stderr():
        try:
            return function()
        except UserError:
            raise
        except Exception as error:  # converters and runtimes raise anything
            cause = error
    reason = " ".join(str(cause).split())[:200] or type(cause).__name__
    raise UserError(f"{failure}: {reason}") from cause


def _keras_model(classifier: Classifier) -> "keras.Model":
    """The classifier's model, which is a Keras model until it is exchanged for another runtime's."""
    return cast("keras.Model", classifier.model)


def _in_float32(classifier: Classifier) -> Classifier:
    """The classifier in float32 if it was trained in half precision, which not all formats support."""
    import keras

    original = _keras_model(classifier)
    config = original.to_json()
    float32_config = re.sub('"mixed_b?float16"', '"float32"', config)
    if float32_config == config:
        return classifier
    model = keras.models.model_from_json(float32_config)
    model.set_weights(original.get_weights())
    return replace(classifier, model=model)


def litert(classifier: Classifier) -> bytes:
    """The LiteRT file for one clip at a time: float32 (1, samples) to (1, labels), LiteRT operations only."""
    import tempfile
    from pathlib import Path

    import tensorflow as tf

    one_clip = tf.TensorSpec((1, classifier.front_end.clip_samples), tf.float32, name=INPUT)
    target = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        path = Path(folder) / FORMATS["litert"]
        _keras_model(classifier).export(path, "litert", verbose=False, input_signature=[one_clip], target_spec=target)
        return path.read_bytes()


def litert_int8(classifier: Classifier, clips: Iterable[np.ndarray]) -> bytes:
    """The LiteRT file with the network's weights and activations in 8-bit integers.

    The softmax stays float32, and so does the front end: the range of its powers does not fit into 8 bits.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import calibrator, quantizer, recipe_manager
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    float_file = bytearray(litert(classifier))
    recipes = recipe_manager.RecipeManager()
    # Keras numbers the layers of one process: tc_resnet_1/conv1d_7.
    scope = rf"^{_keras_model(classifier).name}(_\d+)?/{classifier.candidate}(_\d+)?/"
    recipes.add_static_config(scope, TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    # Use the widest range of all clips. The default averages the ranges, and clips values beyond the average.
    ranges = calibrator.Calibrator(float_file, num_threads=1, qsv_update_func=min_max_update)
    ranges.calibrate({"serving_default": [{INPUT: clip[None]} for clip in clips]}, recipes)
    quantizing = quantizer.Quantizer(float_file, recipes.get_quantization_recipe())
    quantized = bytes(quantizing.quantize(ranges.get_model_qsvs(), enable_progress_report=False).quantized_model)
    if not any(tensor["dtype"] is np.int8 for tensor in Interpreter(model_content=quantized).get_tensor_details()):
        raise ValueError("none of its operations can be computed in 8-bit integers")
    return quantized


def onnx(classifier: Classifier) -> bytes:
    """The ONNX file for any number of clips: float32 (clips, samples) to (clips, labels)."""
    import tensorflow as tf
    import tf2onnx

    clips = tf.TensorSpec((None, classifier.front_end.clip_samples), tf.float32, name=INPUT)
    keras_model = _keras_model(classifier)
    call = tf.function(lambda waveform: {"probabilities": keras_model(waveform, training=False)})
    handlers: dict[str, tuple[Handler, list[object]]] = {
        "RFFT": (_dft, []),
        "Real": (_part(0), []),
        "Imag": (_part(1), []),
    }
    model, _ = tf2onnx.convert.from_function(call, [clips], opset=ONNX_OPSET, custom_op_handlers=handlers)
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "clips"
    return bytes(model.SerializeToString(deterministic=True))


def _dft(graph: "Graph", node: "Node", name: str, _: object) -> None:
    """Replaces TensorFlow's RFFT, which tf2onnx does not convert, by ONNX's DFT.

    ONNX has no complex numbers: real and imaginary part are a last axis.
    """
    from onnx import TensorProto

    frames, result = node.input[0], node.output[0]
    shape = graph.get_shape(frames)
    axis = graph.make_const(f"{name}_axis", np.array([-1], np.int64)).output[0]
    values = graph.make_node("Unsqueeze", [frames, axis], shapes=[[*shape, 1]], dtypes=[TensorProto.FLOAT]).output[0]
    _replace(graph, node, "DFT", [values], {"axis": len(shape) - 1, "onesided": 1}, [*graph.get_shape(result), 2])


def _part(index: int) -> "Handler":
    """Returns the replacement of TensorFlow's Real (0) or Imag (1): a selection from that last axis."""

    def handle(graph: "Graph", node: "Node", name: str, _: object) -> None:
        shape = graph.get_shape(node.input[0])[:-1]
        constant = graph.make_const(f"{name}_index", np.array(index, np.int64)).output[0]
        _replace(graph, node, "Gather", [node.input[0], constant], {"axis": len(shape)}, shape)

    return handle


def _replace(
    graph: "Graph", node: "Node", operation: str, inputs: list[str], attributes: dict[str, int], shape: list[int]
) -> None:
    from onnx import TensorProto

    results = node.output
    graph.remove_node(node.name)
    graph.make_node(
        operation, inputs, attributes, outputs=results, name=node.name, shapes=[shape], dtypes=[TensorProto.FLOAT]
    )
