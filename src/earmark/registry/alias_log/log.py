"""The log of alias moves in MLflow: a registered model of its own, NAME-moves, each version of which is one entry.

MLflow numbers the versions of a registered model atomically, which gives the entries their order.
"""

import getpass
import os
import socket
import uuid
from collections.abc import Callable
from datetime import datetime

from earmark.params import environment
from earmark.registry.alias_log.replay import ID, NOWHERE, Move
from earmark.tracking.registered_model import RegisteredModel, StoredVersion

DESCRIPTION = (
    "No model: the record of where the aliases of '{name}' moved, one version a move, with who, when, from, to and why"
    " as its tags. It is only added to, by 'earmark register' and 'earmark registry'."
)
SOURCE = "earmark:///moves"
APPLIED = "applied"
"""The tag of entries that are applied."""
MODEL_CREATED = "model_created"
"""The tag with the creation time of the registered model that an entry is about."""
OUTSIDER = "unknown, outside earmark"


class AliasLog:
    """The log of the aliases of `model`, in the registered model `log`. Entries are written once."""

    def __init__(self, model: RegisteredModel, log: RegisteredModel, clock: Callable[[], datetime]):
        self._model, self._log, self._clock = model, log, clock

    def moves(self) -> list[Move]:
        """Returns the entries, oldest first.

        Without those about a deleted registered model of the same name, since MLflow reuses its version numbers.
        """
        entries = self._log.versions()
        created = self._model.created() if entries else ""
        return [
            _to_move(entry)
            for entry in entries
            if ID in entry.tags and entry.tags.get(MODEL_CREATED, created) == created
        ]

    def append(
        self,
        alias: str,
        before: str,
        after: str,
        how: str,
        why: str,
        *,
        who: str | None = None,
        compared_with: str = NOWHERE,
    ) -> str:
        """Adds an entry and returns its id; `who` is the current user by default.

        If MLflow's answer is lost, the entry may be written twice; `replay` skips the second.
        """
        who = who or _current_user()
        tags = {
            ID: uuid.uuid4().hex,
            "alias": alias,
            "from": before,
            "to": after,
            "how": how,
            "compared_with": compared_with,
            "who": who,
            "when": self._clock().isoformat(timespec="milliseconds"),
            "why": why,
            "flow_run_id": environment.flow_run_id(),
            MODEL_CREATED: self._model.created(),
        }
        self._log.create(DESCRIPTION.format(name=self._model.name))
        self._log.add_entry(SOURCE, tags, f"{alias}: {before or 'none'} → {after or 'none'} ({how}), by {who}: {why}")
        return tags[ID]

    def mark_applied(self, move: Move) -> None:
        """Marks an entry as applied."""
        self._log.set_tags(str(move.number), {APPLIED: "true"})


def _current_user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _to_move(entry: StoredVersion) -> Move:
    return Move(
        number=int(entry.number),
        id=entry.tags.get(ID, ""),
        alias=entry.tags.get("alias", ""),
        before=entry.tags.get("from", ""),
        after=entry.tags.get("to", ""),
        how=entry.tags.get("how", ""),
        compared_with=entry.tags.get("compared_with", ""),
        who=entry.tags.get("who", ""),
        when=entry.tags.get("when", ""),
        why=entry.tags.get("why", ""),
        flow_run_id=entry.tags.get("flow_run_id", ""),
        applied=APPLIED in entry.tags,
    )
