"""Runs converted classifiers in their runtimes, on one core, through the interface of the Keras model."""

import numpy as np

from earmark.models.conversion import INPUT, call_quietly
from earmark.models.model_folder import Runnable


def open_runtime(content: bytes, format: str) -> Runnable:
    """Opens a file of one of conversion.FORMATS in its runtime.

    Raises:
        UserError: the runtime cannot read the file.
    """
    runtime = _Onnx if format == "onnx" else _LiteRt
    return call_quietly(lambda: runtime(content), f"this {format} file cannot be run")


class _LiteRt:
    def __init__(self, content: bytes):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def predict_on_batch(self, waveforms: np.ndarray) -> np.ndarray:
        return np.concatenate([self._one(clip[None]) for clip in waveforms])

    def _one(self, clip: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, clip)
        self._interpreter.invoke()
        probabilities: np.ndarray = self._interpreter.get_tensor(self._output)
        return probabilities


class _Onnx:
    def __init__(self, content: bytes):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def predict_on_batch(self, waveforms: np.ndarray) -> np.ndarray:
        probabilities: np.ndarray = self._session.run(None, {INPUT: waveforms})[0]
        return probabilities
