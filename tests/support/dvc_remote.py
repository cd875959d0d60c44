"""The remote of a DVC project for tests, set without a start of DVC."""

from pathlib import Path


def set_remote(**settings: str) -> None:
    """Makes `storage` the only remote, and the default, of the project in the working directory."""
    lines = [f"    {key} = {value}" for key, value in settings.items()]
    Path(".dvc/config").write_text("\n".join(["[core]", "    remote = storage", "['remote \"storage\"']", *lines, ""]))


def set_absent_remote() -> None:
    """Makes it one at an address where nobody listens."""
    at = {"url": "s3://earmark-absent/x", "endpointurl": "http://127.0.0.1:9"}
    set_remote(**at, access_key_id="x", secret_access_key="x")
