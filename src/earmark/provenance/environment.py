"""The environment of a training: processor and installed packages."""

import hashlib
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

SHA256 = "sha256."
"""Before the name of a file: the key of its SHA-256 in a record, or a run's tag."""
REQUIREMENTS = "requirements.lock"
LOCK = Path(sys.prefix) / REQUIREMENTS
"""The lock file that this environment was made from; `make setup` copies it there."""


def describe_cpu() -> str:
    """The processor's model and the number of usable cores; the last bits of weights depend on both."""
    cores = len(os.sched_getaffinity(0))
    model = platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, cores: {cores}"


def requirements_tag() -> dict[str, str]:
    """The tag with the SHA-256 of the environment's lock file; empty if there is none."""
    try:
        return {SHA256 + REQUIREMENTS: hashlib.sha256(LOCK.read_bytes()).hexdigest()}
    except FileNotFoundError:
        return {}
