"""Passwords and keys of the stack: `python -m infra.secret_files` draws those that are missing.

Each is a file that only its owner can read, in infra/.state/secrets. `make stack` and compose.yaml read the same files.
"""

import json
import os
import secrets
from pathlib import Path

STATE = Path(__file__).resolve().parent / ".state"
SECRETS = STATE / "secrets"
BUCKETS = ("earmark-dvc", "earmark-mlflow", "earmark-inbox")
PASSWORDS = ("postgres_password", "mlflow_password", "mlflow_flask_key", "prefect_password", "supervisor_password")
S3_USERS = {
    "dvc": ["Read:earmark-dvc", "Write:earmark-dvc", "List:earmark-dvc", "Read:earmark-inbox", "List:earmark-inbox"],
    "mlflow": ["Read:earmark-mlflow", "Write:earmark-mlflow", "List:earmark-mlflow"],
    "admin": ["Admin", "Read", "Write", "List", "Tagging"],
}
"""What each key may do. The worker's key reads and writes the DVC remote, and only reads the inbox."""


def draw(folder: Path = SECRETS) -> None:
    """Writes the secret files that are missing to `folder`; those that are there stay as they are."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in PASSWORDS:
        _write(folder / name, secrets.token_urlsafe(24))
    for user in S3_USERS:
        _write(folder / f"s3_{user}", f"{user}\n{secrets.token_urlsafe(30)}")
    identities = [
        {
            "name": user,
            "credentials": [dict(zip(("accessKey", "secretKey"), s3_key(user, folder), strict=True))],
            "actions": actions,
        }
        for user, actions in S3_USERS.items()
    ]
    # Made from the keys each time, so that a change of S3_USERS holds at the next start.
    (folder / "s3.json").unlink(missing_ok=True)
    _write(folder / "s3.json", json.dumps({"identities": identities}, indent=2))


def read(name: str, folder: Path = SECRETS) -> str:
    """Returns the secret `name`."""
    return (folder / name).read_text(encoding="utf-8").strip()


def s3_key(user: str, folder: Path = SECRETS) -> tuple[str, str]:
    """Returns the access key and the secret key of one of S3_USERS."""
    access_key, secret_key = read(f"s3_{user}", folder).split("\n")
    return access_key, secret_key


def _write(file: Path, text: str) -> None:
    if file.exists():
        return
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    partial.replace(file)


if __name__ == "__main__":
    draw()
    print(f"secrets are in {SECRETS}")
