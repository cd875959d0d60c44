"""A list of recordings on the terminal, which other programs read too."""


def line(id: str, speaker: str, split: str, seconds: float) -> str:
    """Returns one recording, separated by tabs; `seconds` is "nan" if it cannot be decoded."""
    return f"{id}\t{speaker}\t{split}\t{seconds:.3f}"
