"""Formats numbers and times for people; the page has the exact values too."""

from datetime import datetime

# Not humanize: its units change within a column (234 μs, 1.50 ms), and it spells out "1 minute and 5 seconds".
_BYTES_PER_UNIT = 1000.0
_NO_BREAK_SPACE = "\u00a0"
_MISSING = "–"


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction from 0 to 1 as a percentage with `digits` decimals; NaN is a dash."""
    return _MISSING if fraction != fraction else f"{fraction * 100:.{digits}f}{_NO_BREAK_SPACE}%"


def interval(low: float, high: float) -> str:
    """Return two fractions from 0 to 1 as a range of percentages with one decimal."""
    return f"{low * 100:.1f}–{high * 100:.1f}{_NO_BREAK_SPACE}%"


def count(number: int) -> str:
    """Return a whole number with its thousands separated."""
    return f"{int(number):,}"


def size(bytes_: float) -> str:
    """Return a number of bytes in decimal units, from B to GB."""
    value, units = float(bytes_), ["B", "kB", "MB", "GB"]
    while round(value) >= _BYTES_PER_UNIT and len(units) > 1:
        value /= _BYTES_PER_UNIT
        units.pop(0)
    digits = 0 if units[0] == "B" or value >= 99.5 else 1
    return f"{value:.{digits}f}{_NO_BREAK_SPACE}{units[0]}"


def kilobytes(bytes_: float) -> str:
    """Return a number of bytes in kB, to compare it with another."""
    return f"{bytes_ / 1000:,.0f}{_NO_BREAK_SPACE}kB"


def milliseconds(number: float) -> str:
    """Return milliseconds with three digits, or as a whole number from a thousand on."""
    shown = f"{number:.3g}" if round(number) < 1000 else f"{number:,.0f}"
    return f"{shown}{_NO_BREAK_SPACE}ms"


def duration(seconds: float) -> str:
    """Return a duration as seconds below two minutes, minutes and seconds below two hours, else hours and minutes."""
    if seconds < 120:
        return f"{seconds:.1f}{_NO_BREAK_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes}{_NO_BREAK_SPACE}min {rest}{_NO_BREAK_SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{_NO_BREAK_SPACE}h {minutes}{_NO_BREAK_SPACE}min"


def decimals(value: float) -> str:
    """Return a number with three decimals; NaN is a dash."""
    return _MISSING if value != value else f"{value:.3f}"


def significant(value: float, digits: int = 6) -> str:
    """Return a number with at most `digits` significant digits, and no zeros at its end."""
    return f"{value:.{digits}g}"


def minute(moment: datetime) -> str:
    """Return a time in UTC to the minute."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
