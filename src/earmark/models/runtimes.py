"""Converted classifiers in the runtimes that they are for, on one core, to be asked as the Keras model is."""

from typing import Protocol

import numpy as np

from earmark.models.conversion import INPUT, call_quietly


class Runnable(Protocol):
    """What answers for clips."""

    def predict_on_batch(self, waveforms: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (clips, labels), of float32 (clips, samples)."""


def open_runtime(content: bytes, format: str) -> Runnable:
    """A file of one of conversion.FORMATS, in its runtime; UserError where that cannot read it."""
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
        return self._interpreter.get_tensor(self._output)


class _Onnx:
    def __init__(self, content: bytes):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def predict_on_batch(self, waveforms: np.ndarray) -> np.ndarray:
        return self._session.run(None, {INPUT: waveforms})[0]
