"""The signal-to-noise ratios at which models are evaluated, and their names in files."""

SNR_DB = (20, 10, 5, 0)
"""Mean power of the clip over mean power of the noise, in decibels."""


def column(snr_db: int) -> str:
    """The column of reports/predictions.csv with the label predicted at this ratio."""
    return f"predicted_at_{snr_db}_db"


def key(snr_db: int) -> str:
    """The key of `accuracy_in_noise` in reports/metrics.json."""
    return f"{snr_db}_db"
