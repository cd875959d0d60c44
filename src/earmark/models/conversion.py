"""A classifier as one file for another runtime, waveform in and probabilities out, the front end inside: LiteRT, LiteRT
with the network in 8-bit integers, ONNX."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from earmark.errors import UserError
from earmark.io.quiet_stderr import quiet_stderr
from earmark.models.model_folder import Classifier

FORMATS = {"litert": "model.tflite", "litert-int8": "model.tflite", "onnx": "model.onnx"}
"""What a classifier can be converted to, and the name of its file."""
INPUT = "waveform"
ONNX_OPSET = 17
"""The first with DFT, and as old as can be for runtimes that are."""


def convert(classifier: Classifier, format: str, clips: Callable[[], Iterable[np.ndarray]]) -> bytes:
    """The file of `classifier` in one of FORMATS; the same bytes each time but for ONNX, whose converter names and
    orders nodes as sets happen to be.

    `clips` gives training clips, float32 (samples,), from which 8-bit ranges are taken. UserError where the format has
    no operation for something in the front end or in the network.
    """
    fft_length = classifier.front_end.fft_length
    if format != "onnx" and fft_length & (fft_length - 1):
        raise UserError(f"{format} knows no FFT of length {fft_length}; allowed are powers of two, or onnx")
    write = {"litert": litert, "onnx": onnx, "litert-int8": lambda each: litert_int8(each, clips())}[format]
    return call_quietly(
        lambda: write(_in_float32(classifier)), f"{classifier.candidate} cannot be converted to {format}"
    )


def call_quietly(call: Callable[[], Any], refusal: str) -> Any:
    """What `call` gives, without the remarks of converters and runtimes; where one of those fails, a UserError that
    begins with `refusal`."""
    with quiet_stderr():
        try:
            return call()
        except UserError:
            raise
        except Exception as error:  # They raise whatever comes.
            failure = error
    said = " ".join(str(failure).split())[:200] or type(failure).__name__
    raise UserError(f"{refusal}: {said}") from failure


def _in_float32(classifier: Classifier) -> Classifier:
    """The same for one trained in half precision, which the formats do not know, or not everywhere."""
    import keras

    written = classifier.model.to_json()
    full = re.sub('"mixed_b?float16"', '"float32"', written)
    if full == written:
        return classifier
    model = keras.models.model_from_json(full)
    model.set_weights(classifier.model.get_weights())
    return replace(classifier, model=model)


def litert(classifier: Classifier) -> bytes:
    """The LiteRT file of one clip at a time: float32 (1, samples) to (1, labels), of LiteRT's own operations only."""
    import tempfile
    from pathlib import Path

    import tensorflow as tf

    one_clip = tf.TensorSpec((1, classifier.front_end.clip_samples), tf.float32, name=INPUT)
    target = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        path = Path(folder) / FORMATS["litert"]
        classifier.model.export(path, "litert", verbose=False, input_signature=[one_clip], target_spec=target)
        return path.read_bytes()


def litert_int8(classifier: Classifier, clips: Iterable[np.ndarray]) -> bytes:
    """The same with the network's weights and activations in 8-bit integers. The front end, whose powers span more than
    8 bits can hold, and the softmax stay float32."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import calibrator, quantizer, recipe_manager
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    float_file = bytearray(litert(classifier))
    recipes = recipe_manager.RecipeManager()
    # Keras counts the layers of one process: tc_resnet_1/conv1d_7.
    scope = rf"^{classifier.model.name}(_\d+)?/{classifier.candidate}(_\d+)?/"
    recipes.add_static_config(scope, TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    # The widest ranges of all clips: by default they are averaged, and what is beyond the average is cut off.
    ranges = calibrator.Calibrator(float_file, num_threads=1, qsv_update_func=min_max_update)
    ranges.calibrate({"serving_default": [{INPUT: clip[None]} for clip in clips]}, recipes)
    quantizing = quantizer.Quantizer(float_file, recipes.get_quantization_recipe())
    found = bytes(quantizing.quantize(ranges.get_model_qsvs(), enable_progress_report=False).quantized_model)
    if not any(each["dtype"] is np.int8 for each in Interpreter(model_content=found).get_tensor_details()):
        raise ValueError("nothing in it can be computed in 8-bit integers")
    return found


def onnx(classifier: Classifier) -> bytes:
    """The ONNX file: float32 (clips, samples) to (clips, labels), for any number of clips."""
    import tensorflow as tf
    import tf2onnx

    clips = tf.TensorSpec((None, classifier.front_end.clip_samples), tf.float32, name=INPUT)
    call = tf.function(lambda waveform: {"probabilities": classifier.model(waveform, training=False)})
    spectrum = {"RFFT": (_dft, []), "Real": (_part(0), []), "Imag": (_part(1), [])}
    model, _ = tf2onnx.convert.from_function(call, [clips], opset=ONNX_OPSET, custom_op_handlers=spectrum)
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "clips"
    return model.SerializeToString(deterministic=True)


def _dft(graph, node, name: str, _) -> None:
    """TensorFlow's RFFT, which tf2onnx knows in no graph such as ours, as ONNX's DFT: what is complex there has a last
    axis of real and imaginary part here."""
    from onnx import TensorProto

    frames, result = node.input[0], node.output[0]
    shape = graph.get_shape(frames)
    axis = graph.make_const(f"{name}_axis", np.array([-1], np.int64)).output[0]
    values = graph.make_node("Unsqueeze", [frames, axis], shapes=[[*shape, 1]], dtypes=[TensorProto.FLOAT]).output[0]
    _replace(graph, node, "DFT", [values], {"axis": len(shape) - 1, "onesided": 1}, [*graph.get_shape(result), 2])


def _part(place: int):
    """TensorFlow's Real or Imag as what lies at `place` of that last axis."""

    def handle(graph, node, name: str, _) -> None:
        shape = graph.get_shape(node.input[0])[:-1]
        index = graph.make_const(f"{name}_index", np.array(place, np.int64)).output[0]
        _replace(graph, node, "Gather", [node.input[0], index], {"axis": len(shape)}, shape)

    return handle


def _replace(graph, node, operation: str, inputs: list[str], attributes: dict, shape: list[int]) -> None:
    from onnx import TensorProto

    results = node.output
    graph.remove_node(node.name)
    graph.make_node(
        operation, inputs, attributes, outputs=results, name=node.name, shapes=[shape], dtypes=[TensorProto.FLOAT]
    )
