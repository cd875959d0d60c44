"""Makes .venv from locks: `python install.py base.lock cpu.lock`. Needs nothing but Python's standard library.

uv installs; pip, which comes with Python, installs uv from a lock of its own. What is not in the locks is removed.
"""

from __future__ import annotations  # so that an older Python is refused in a sentence

import ast
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE.parent / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = VENV / "requirements.lock"
"""What models are made with, from the locks that are not in ASIDE: provenance records it."""
MADE = VENV / ".made"
"""Written once pip is there, since a set-up that was killed leaves it half unpacked; holds where .venv is.

The scripts in an environment know its path: those of a moved or copied checkout would run the code of the original.
"""
ASIDE = ("server.lock", "test.lock")
SUPPORTED = ((3, 11), (3, 13))
# pip's option: the variable by which uv takes the same.
UV_NAMES = {
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}
SEPARATORS = {"find-links": ",", "trusted-host": " "}


def main(locks: list[str]) -> int:
    """Make .venv from the named locks; return the exit code."""
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        version = ".".join(map(str, sys.version_info[:3]))
        problem = f"Python {version} is not supported; expected 3.11 to 3.13: make PYTHON=python3.11"
        print(f"earmark: {problem}", file=sys.stderr)
        return 2
    try:
        LOCK.unlink(missing_ok=True)
        if not _is_ours():
            _run(sys.executable, "-m", "venv", "--clear", VENV)
            MADE.write_text(str(VENV.resolve()), encoding="utf-8")
        _run(*_pip("install"), "--quiet", "--require-hashes", "--no-deps", "--requirement", HERE / "installer.lock")
        environment = _as_uv_takes_it(_pip_settings()) | {"UV_INDEX_STRATEGY": "unsafe-best-match"} | os.environ
        uv = (VENV / "bin" / "uv", "pip")
        where = ("--python", PYTHON, "--no-config")
        files = [HERE / name for name in (*locks, "installer.lock")]
        _run(*uv, "sync", *where, "--require-hashes", "--compile-bytecode", *files, env=environment)
        project = ("--no-deps", "--quiet", "--editable", HERE.parent)
        _run(*uv, "install", *where, *project, env=environment)
        run_locks = [HERE / name for name in locks if name not in ASIDE]
        LOCK.write_text("".join(path.read_text(encoding="utf-8") for path in run_locks), encoding="utf-8")
    except subprocess.CalledProcessError as error:
        return error.returncode
    except OSError as error:
        print(f"earmark: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nearmark: the set-up was interrupted; 'make setup' begins it again", file=sys.stderr)
        return 130
    return 0


def _is_ours() -> bool:
    """Whether .venv is there, whole, made at this place, and of the Python that runs this."""
    script = "import sys; print(sys.base_prefix, *sys.version_info[:3])"
    try:
        done = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True)
    except OSError:
        return False
    version = [sys.base_prefix, *map(str, sys.version_info[:3])]
    is_here = MADE.exists() and MADE.read_text(encoding="utf-8") == str(VENV.resolve())
    return is_here and done.returncode == 0 and done.stdout.split() == version


def _pip(command: str) -> list:
    return [PYTHON, "-m", "pip", "--disable-pip-version-check", command]


def _pip_settings() -> dict[str, str]:
    """What pip's configuration files and PIP_… variables say, the stronger ones last: environment, install, global."""
    listed = subprocess.run([*_pip("config"), "list"], capture_output=True, text=True, check=True).stdout
    entries = [line.partition("=") for line in listed.splitlines()]
    order = ("global.", "install.", ":env:.")
    settings = {}
    for prefix in order:
        for key, _, value in entries:
            if key.startswith(prefix):
                settings[key.removeprefix(prefix)] = ast.literal_eval(value)
    return settings


def _as_uv_takes_it(settings: dict[str, str]) -> dict[str, str]:
    """Return uv's variables for pip's settings; addresses, which may hold passwords, are on no command line."""
    named = {name: settings[option] for option, name in UV_NAMES.items() if settings.get(option)}
    for option, separator in SEPARATORS.items():
        if option in settings:
            named[UV_NAMES[option]] = separator.join(settings[option].split())
    # pip looks for files in all indexes, uv in the first that has the version: the main one, and its default is last.
    *first, last = [settings.get("index-url") or _default_index(), *settings.get("extra-index-url", "").split()]
    return named | {"UV_INDEX": " ".join(first), "UV_DEFAULT_INDEX": last}


def _default_index() -> str:
    script = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    return subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def _run(*command: object, env: dict[str, str] | None = None) -> None:
    subprocess.run(list(map(str, command)), check=True, env=env)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
