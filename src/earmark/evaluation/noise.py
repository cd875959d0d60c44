"""At which signal-to-noise ratios models are evaluated, and how files name them."""

SNR_DB = (20, 10, 5, 0)
"""Mean power of a clip over that of the background noise in it, in decibels."""


def column(snr_db: int) -> str:
    """The column of reports/predictions.csv with the label that is predicted at this ratio."""
    return f"predicted_at_{snr_db}_db"


def key(snr_db: int) -> str:
    """The key of `accuracy_in_noise` in reports/metrics.json."""
    return f"{snr_db}_db"
