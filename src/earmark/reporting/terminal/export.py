"""An exported model beside the original, on the terminal."""

from earmark.reporting import formats

_DIGITS = 2
"""Decimals of a percentage: the conversion of a model may change the answer for one clip of thousands."""


def sentence(
    subject: str, clips: str, accuracy: float, original_accuracy: float, file_bytes: int, original_bytes: int
) -> str:
    """Returns size and accuracy, from 0 to 1, of `subject` and of the original; `clips` is such as "30 test clips"."""
    return (
        f"{subject}: {formats.kilobytes(file_bytes)}, {formats.percent(accuracy, _DIGITS)} of {clips} right;"
        f" the original: {formats.kilobytes(original_bytes)}, {formats.percent(original_accuracy, _DIGITS)}"
    )


def refusal(format: str, clips: str, accuracy: float, original_accuracy: float, max_loss: float) -> str:
    """Returns why the export to `format` is refused: it loses more accuracy than `max_loss`."""
    return (
        f"{format} gets {formats.percent(accuracy, _DIGITS)} of {clips} right and the original"
        f" {formats.percent(original_accuracy, _DIGITS)}; expected a loss of at most"
        f" {formats.percent(max_loss, _DIGITS)}, export.max_accuracy_loss in params.yaml"
    )
