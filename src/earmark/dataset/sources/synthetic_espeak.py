"""The only module that uses espeak-ng: it speaks each batch of utterances in a new process.

espeak-ng keeps state that no call resets and that survives unloading the library (the phase of the pitch flutter, echo,
gain control), so its output depends on everything that it spoke before. A new process is the only way to start from a
known state; it also isolates crashes of the library. That process runs this file as a script. The file imports only the
standard library, so that it starts in about 20 ms.
"""

import ctypes
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from earmark.errors import UserError

SAMPLE_RATE_HZ = 22_050

# Values of speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_CHARACTERS_UTF8 = 1
_POSITION_CHARACTER = 1
_PARAMETER_RATE, _PARAMETER_VOLUME, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 2, 3, 4
_RANDOM_SEED = 1
# Percent; the default of 100 overloads with some voices.
_VOLUME = 60

_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Utterance:
    """A text and how to say it.

    ``voice`` is "<language file>+<variant>", such as "gmw/en-US+f2"; ``rate_wpm`` is in words a minute, 80 to 450;
    ``pitch`` and ``pitch_range`` are 0 to 100, where 50 is the voice's own.
    """

    text: str
    voice: str
    rate_wpm: int
    pitch: int
    pitch_range: int


def package_version() -> str:
    """Return the version of the package that contains espeak-ng and its voices.

    Raises:
        UserError: it is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("espeakng-loader")
    except PackageNotFoundError as error:
        raise _unavailable("the package espeakng-loader is not installed") from error


def speak(utterances: Sequence[Utterance]) -> list["npt.NDArray[np.int16]"]:
    """Return the samples of each utterance: int16, mono, at ``SAMPLE_RATE_HZ``, with silence around it.

    The same utterances in the same order give the same samples, regardless of earlier calls.

    Raises:
        UserError: espeak-ng does not run on this platform.
    """
    import numpy as np

    return [np.frombuffer(pcm, dtype="<i2") for pcm in _split(_run_child(utterances))]


def _run_child(utterances: Sequence[Utterance]) -> bytes:
    try:
        import espeakng_loader

        # Started in the folder of the voices, since espeak-ng cuts their path off at 160 characters.
        folder = Path(espeakng_loader.get_data_path()).parent
        request = {"library": espeakng_loader.get_library_path(), "utterances": [asdict(item) for item in utterances]}
        child = subprocess.run(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve())],
            input=json.dumps(request).encode(),
            cwd=folder,
            capture_output=True,
            check=False,
        )
    except (ImportError, OSError, RuntimeError) as error:
        raise _unavailable(str(error)) from error
    if child.returncode != 0:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        raise _unavailable(lines[-1] if lines else f"exit status {child.returncode}")
    return child.stdout


def _unavailable(reason: str) -> "UserError":
    from earmark.errors import UserError

    return UserError(
        f"espeak-ng, which generates the synthetic data set, does not run on {platform.system()} {platform.machine()} "
        f"({reason}); set dataset.source to another source, such as a folder of recordings"
    )


def _split(answer: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(answer):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(answer[position:start], "little")
        yield answer[start:position]


class _Engine:
    """The library, loaded and initialised in this process."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)
        self._declare()
        rate_hz = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, b".", _DO_NOT_EXIT)
        if rate_hz != SAMPLE_RATE_HZ:
            raise RuntimeError(f"espeak_Initialize returned {rate_hz}; expected {SAMPLE_RATE_HZ} Hz")
        # The initialisation seeds the random generator with the clock.
        self._library.espeak_ng_SetRandSeed(_RANDOM_SEED)
        self._chunks: list[bytes] = []
        self._receiver = self._receiver_type(self._receive)
        self._library.espeak_SetSynthCallback(self._receiver)

    def _declare(self) -> None:
        text, number, size = ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
        flags, pointer = ctypes.c_uint, ctypes.c_void_p
        self._receiver_type = ctypes.CFUNCTYPE(number, pointer, number, pointer)
        for name, arguments in {
            "espeak_Initialize": [number, number, text, number],
            "espeak_ng_SetRandSeed": [ctypes.c_long],
            "espeak_SetSynthCallback": [self._receiver_type],
            "espeak_SetVoiceByName": [text],
            "espeak_SetParameter": [number, number, number],
            "espeak_Synth": [text, size, flags, number, flags, flags, pointer, pointer],
        }.items():
            getattr(self._library, name).argtypes = arguments

    def _receive(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def say(self, utterance: dict[str, Any]) -> bytes:
        """Return the speech as 16-bit samples."""
        self._chunks.clear()
        self._check(self._library.espeak_SetVoiceByName(utterance["voice"].encode()), "voice", utterance)
        self._library.espeak_SetParameter(_PARAMETER_VOLUME, _VOLUME, 0)
        for parameter, key in (
            (_PARAMETER_RATE, "rate_wpm"),
            (_PARAMETER_PITCH, "pitch"),
            (_PARAMETER_RANGE, "pitch_range"),
        ):
            self._check(self._library.espeak_SetParameter(parameter, utterance[key], 0), key, utterance)
        text = utterance["text"].encode()
        status = self._library.espeak_Synth(
            text, len(text) + 1, 0, _POSITION_CHARACTER, 0, _CHARACTERS_UTF8, None, None
        )
        self._check(status, "text", utterance)
        return b"".join(self._chunks)

    @staticmethod
    def _check(status: int, key: str, utterance: dict[str, Any]) -> None:
        if status != 0:
            raise RuntimeError(f"espeak-ng refuses {key} {utterance[key]!r} with status {status}")


def _main() -> None:
    request = json.load(sys.stdin.buffer)
    engine = _Engine(request["library"])
    for utterance in request["utterances"]:
        pcm = engine.say(utterance)
        sys.stdout.buffer.write(len(pcm).to_bytes(_LENGTH_BYTES, "little") + pcm)


if __name__ == "__main__":
    _main()
