"""`mlflow models serve` for tests, where nothing of this repository can be imported."""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.prefect_server import answers, free_port, running, wait_until

START_SECONDS = 180


def bare_environment(folder: Path) -> Path:
    """A virtual environment with the packages of this one but for earmark, whose editable install only a .pth file
    names; returns its bin folder."""
    venv.create(folder, with_pip=False)
    site_packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site_packages / "packages.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    uvicorn = folder / "bin" / "uvicorn"  # which MLflow starts by its name
    uvicorn.write_text(f"#!{folder}/bin/python\nfrom uvicorn.main import main\n\nmain()\n")
    uvicorn.chmod(0o755)
    command = [folder / "bin" / "python", "-c", "import earmark"]
    without = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True)
    assert "No module named 'earmark'" in without.stderr
    return folder / "bin"


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


@contextmanager
def serving(model: str, tracking_uri: str, home: Path) -> Iterator[str]:
    """The address of a server of `model` on a free port of 127.0.0.1."""
    binaries = bare_environment(home / "bare")
    port = str(free_port())
    environment = _environment() | {
        "PATH": f"{binaries}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    address, log = f"http://127.0.0.1:{port}", home / "server.log"
    command = [binaries / "python", "-m", "mlflow", "models", "serve", "--model-uri", model, "--env-manager", "local"]
    with running([*command, "--host", "127.0.0.1", "--port", port], log, cwd=home, env=environment):
        wait_until(lambda: answers(f"{address}/ping"), START_SECONDS, f"the served model answers, see {log}")
        yield address
