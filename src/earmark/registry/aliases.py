"""Moves the aliases of one registered model, through a log that MLflow's own aliases follow.

MLflow has no transactions, but it numbers the versions of a registered model atomically. So the log is a registered
model of its own, NAME-moves: each version is one entry, and `alias_log.replay` computes the state. MLflow's aliases are
a copy of that state. Whoever writes the copy has an entry in the log that is not yet marked as applied, and reads the
log again after writing. docs/alias-log.md explains the states, repair, take-over and abandonment.
"""

import getpass
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from earmark.errors import UserError
from earmark.params import environment
from earmark.registry import alias_log
from earmark.registry.alias_log import ALIASES, CHAMPION, NOWHERE, AliasState, Move
from earmark.tracking.connection import raise_unless, retried_on, translated_errors
from earmark.tracking.models import all_versions, ensure_registered_model

LOG_DESCRIPTION = (
    "No model: the record of where the aliases of '{name}' moved, one version a move, with who, when, from, to and why"
    " as its tags. It is only added to, by 'earmark register' and 'earmark registry'."
)
LOG_SOURCE = "earmark:///moves"
APPLIED = "applied"
"""The tag of entries that are applied."""
MODEL_CREATED = "model_made"
"""The tag with the creation time of the registered model that an entry is about."""
OUTSIDER = "unknown, outside earmark"
MAX_DESCRIPTION = 5000
ABANDONED_AFTER = timedelta(minutes=10)
"""An entry that is still not applied after this time belongs to a killed process."""
_TRANSIENT = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Aliases:
    """The aliases `champion` and `challenger` of the registered model `name`. Only `move` moves them.

    Every method raises UserError if MLflow does not answer.
    """

    def __init__(self, name: str, client: MlflowClient, clock: Callable[[], datetime] = _utc_now):
        self._name, self._client, self._clock = name, client, clock
        self._log_name = f"{name}-moves"

    def state(self) -> AliasState:
        """Reads the log and returns its state; changes nothing."""
        with translated_errors():
            return alias_log.replay(self._read_log())

    def reconcile(self) -> AliasState:
        """Brings the log and MLflow's aliases into line, and returns the state. Call it before `move`.

        Completes what a killed process began. An alias that someone moved in MLflow, or whose version someone deleted,
        is taken over into the log.
        """
        with translated_errors():
            while True:
                state, positions = self._snapshot()
                differing = {alias: at for alias, at in positions.items() if at != state.aliases[alias]}
                if not differing:
                    self._close_abandoned(state)
                    return state
                outside = {alias: at for alias, at in differing.items() if not self._is_unfinished(state, alias, at)}
                if outside:
                    self._take_over(state, outside)
                else:
                    self._repair(state)

    def move(self, alias: str, before: str, after: str, how: str, why: str, compared_with: str = NOWHERE) -> bool:
        """Moves `alias` from version `before` to version `after` (NOWHERE for none) and logs it; `why` is one line.

        Returns False, and nothing moves, if another move came first: the alias is not at `before`, a register was
        `compared_with` another champion than the current one, or a rollback's `after` is not the previous champion.

        Raises:
            UserError: MLflow does not answer. The text tells if the move is in the log all the same.
        """
        with translated_errors():
            entry_id = self._append(alias, before, after, how, why, _current_user(), compared_with)
        try:
            with translated_errors():
                return self._apply([entry_id])
        except UserError as error:
            raise UserError(
                f"{alias}: the move from version {before or 'none'} to version {after or 'none'} is recorded but not"
                f" finished: {error}; the next 'earmark register', 'earmark registry promote' or 'earmark registry"
                " rollback' finishes it, unless another move came first"
            ) from None

    def mlflow_aliases(self) -> dict[str, str]:
        """Alias to version number as MLflow has them, other aliases too; `champion` and `challenger` always exist."""
        with translated_errors():
            try:
                aliases = self._client.get_registered_model(self._name).aliases
            except MlflowException as error:
                raise_unless(error, "RESOURCE_DOES_NOT_EXIST")
                aliases = {}
        return dict.fromkeys(ALIASES, NOWHERE) | {alias: str(number) for alias, number in aliases.items()}

    def _snapshot(self) -> tuple[AliasState, dict[str, str]]:
        """The log's state, and where MLflow's aliases pointed while the log did not change."""
        moves = self._read_log()
        while True:
            aliases = self.mlflow_aliases()
            if (latest := self._read_log()) == moves:
                return alias_log.replay(moves), {alias: aliases[alias] for alias in ALIASES}
            moves = latest

    def _is_unfinished(self, state: AliasState, alias: str, position: str) -> bool:
        """Whether MLflow's `alias` is at `position` because a move of ours is under way or was interrupted, so that it
        has yet to follow the log; otherwise someone else moved it."""
        is_explained = any(move.explains(alias, position) for move in state.unconfirmed)
        if not is_explained and all(self._is_abandoned(move) for move in state.pending):
            return False
        return self._can_point_to(state.aliases[alias])

    def _can_point_to(self, number: str) -> bool:
        if number == NOWHERE:
            return True
        try:
            self._client.get_model_version(self._name, number)
        except MlflowException as error:
            raise_unless(error, "RESOURCE_DOES_NOT_EXIST")
            return False
        return True

    def _repair(self, state: AliasState) -> None:
        """Applies the log's state on behalf of the last pending entry."""
        interrupted = state.pending[-1]
        position = state.aliases[interrupted.alias]
        why = f"brings MLflow's aliases into line with move {interrupted.number}, which was interrupted"
        self._apply([self._append(interrupted.alias, position, position, "repair", why, _current_user())])

    def _take_over(self, state: AliasState, positions: Mapping[str, str]) -> None:
        """Logs what someone did in MLflow, so that the log says the same."""
        why = "found moved in MLflow"
        # Challenger first: an entry that makes the challenger champion would void a later one for the challenger.
        ordered = sorted(positions.items(), key=lambda item: item[0] == CHAMPION)
        self._apply([self._append(alias, state.aliases[alias], at, "outside", why, OUTSIDER) for alias, at in ordered])

    def _close_abandoned(self, state: AliasState) -> None:
        for move in state.pending:
            if self._is_abandoned(move):
                self._mark_applied(move)

    def _is_abandoned(self, move: Move) -> bool:
        return self._clock() - datetime.fromisoformat(move.when) > ABANDONED_AFTER

    def _append(
        self, alias: str, before: str, after: str, how: str, why: str, who: str, compared_with: str = NOWHERE
    ) -> str:
        """Adds an entry to the log and returns its id."""
        tags = {
            alias_log.ID: uuid.uuid4().hex,
            "alias": alias,
            "from": before,
            "to": after,
            "how": how,
            "judged_against": compared_with,
            "who": who,
            "when": self._clock().isoformat(timespec="milliseconds"),
            "why": why,
            "flow_run_id": environment.flow_run_id(),
            MODEL_CREATED: self._model_created(),
        }
        sentence = f"{alias}: {before or 'none'} → {after or 'none'} ({how}), by {who}: {why}"[:MAX_DESCRIPTION]
        ensure_registered_model(self._client, self._log_name, LOG_DESCRIPTION.format(name=self._name))
        # If the answer to a request is lost, the entry is written twice; the second one is void.
        # Concurrent writers compete for a number, and MLflow gives up after losing three times: so we retry.
        for attempt in retried_on(*_TRANSIENT):
            with attempt:
                self._client.create_model_version(
                    self._log_name, LOG_SOURCE, tags=tags, description=sentence, await_creation_for=0
                )
        return tags[alias_log.ID]

    def _apply(self, entry_ids: list[str]) -> bool:
        """Brings MLflow's aliases into line with the log on behalf of these entries; False if none of them is valid."""
        moves = [move for move in self.state().valid_moves if move.id in entry_ids]
        if not moves:
            return False
        while True:
            log = self._read_log()
            self._set_mlflow_aliases(alias_log.replay(log).aliases)
            if len(self._read_log()) == len(log):
                break
        for move in moves:
            self._mark_applied(move)
        return True

    def _set_mlflow_aliases(self, positions: Mapping[str, str]) -> None:
        current = self.mlflow_aliases()
        for alias, number in positions.items():
            if current[alias] == number:
                continue
            if number == NOWHERE:
                self._client.delete_registered_model_alias(self._name, alias)
                continue
            try:
                # If two processes set an alias that does not exist yet, MLflow refuses the second.
                for attempt in retried_on("BAD_REQUEST"):
                    with attempt:
                        self._client.set_registered_model_alias(self._name, alias, number)
            except MlflowException as error:
                # Someone deleted the version. MLflow's alias stays as it is; the next `reconcile` takes that over.
                raise_unless(error, "RESOURCE_DOES_NOT_EXIST")

    def _mark_applied(self, move: Move) -> None:
        self._client.set_model_version_tag(self._log_name, str(move.number), APPLIED, "true")

    def _read_log(self) -> list[Move]:
        """The log's entries, without those about a deleted registered model of the same name: MLflow gives the numbers
        of its versions again."""
        entries = all_versions(self._client, self._log_name)
        created = self._model_created() if entries else ""
        return [
            _to_move(entry)
            for entry in entries
            if alias_log.ID in entry.tags and entry.tags.get(MODEL_CREATED, created) == created
        ]

    def _model_created(self) -> str:
        """The creation time of the registered model, which tells it from another of its name; "" if there is none."""
        try:
            return str(self._client.get_registered_model(self._name).creation_timestamp)
        except MlflowException as error:
            raise_unless(error, "RESOURCE_DOES_NOT_EXIST")
            return ""


def _current_user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _to_move(entry: ModelVersion) -> Move:
    return Move(
        number=int(entry.version),
        id=entry.tags.get(alias_log.ID, ""),
        alias=entry.tags.get("alias", ""),
        before=entry.tags.get("from", ""),
        after=entry.tags.get("to", ""),
        how=entry.tags.get("how", ""),
        compared_with=entry.tags.get("judged_against", ""),
        who=entry.tags.get("who", ""),
        when=entry.tags.get("when", ""),
        why=entry.tags.get("why", ""),
        flow_run_id=entry.tags.get("flow_run_id", ""),
        applied=APPLIED in entry.tags,
    )
