"""What a training runs on and with: processor and installed packages."""

import hashlib
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

SHA256 = "sha256."
"""What the tag with the SHA-256 of a file begins with; its name follows."""
REQUIREMENTS = "requirements.lock"
LOCK = Path(sys.prefix) / REQUIREMENTS
"""What this environment was made from; `make setup` puts it there."""


def describe_cpu() -> str:
    """The kind of processor, and how many cores this process may use: on both depend the last bits of weights."""
    cores = len(os.sched_getaffinity(0))
    kind = platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        kind = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), kind)
    return f"{kind}, cores: {cores}"


def requirements_tag() -> dict[str, str]:
    """The tag with the SHA-256 of the lock that this environment was made from; none where it has none."""
    try:
        return {SHA256 + REQUIREMENTS: hashlib.sha256(LOCK.read_bytes()).hexdigest()}
    except FileNotFoundError:
        return {}
