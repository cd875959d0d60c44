"""Where the aliases of one registered model point: a record in MLflow, which its aliases follow.

MLflow has no transactions, but it gives a new version of a registered model its number atomically. So the record is a
registered model of its own, NAME-moves, each of whose versions is one entry, and `moves.replay` says what they come to.
MLflow's aliases follow the record: whoever writes them has an entry in it that is not marked as applied meanwhile, and
reads the record again after writing. So an alias that differs where every entry is applied was moved by somebody else;
and so was one where the only pending entries are abandoned, and none can have left it where it is.
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
from earmark.registry.alias_log import ALIASES, CHAMPION, NOWHERE, Move, Record
from earmark.tracking.connection import answering, persistently, require
from earmark.tracking.models import all_versions, make_model

RECORD_DESCRIPTION = (
    "No model: the record of where the aliases of '{name}' moved, one version a move, with who, when, from, to and why"
    " as its tags. It is only added to, by 'earmark register' and 'earmark registry'."
)
RECORD_SOURCE = "earmark:///moves"
APPLIED = "applied"
MODEL_MADE = "model_made"
OUTSIDER = "unknown, outside earmark"
MAX_DESCRIPTION = 5000
ABANDONED_AFTER = timedelta(minutes=10)
"""A move that is not applied after this time is one of a killed process."""
_FINISHER = (
    "the next earmark command that opens the registry ('earmark register', 'earmark registry promote' or 'rollback')"
)
_TRANSIENT = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Aliases:
    """The aliases `champion` and `challenger` of the registered model `name`. They move only through `move`.

    Every method raises UserError where MLflow does not answer.
    """

    def __init__(self, name: str, client: MlflowClient, clock: Callable[[], datetime] = _utc_now):
        self._name, self._client, self._clock = name, client, clock
        self._record_name = f"{name}-moves"

    def record(self) -> Record:
        """What the record says, as it is."""
        with answering():
            return alias_log.replay(self._moves())

    def open(self) -> Record:
        """What the record says, for whoever means to move an alias: what a killed process began is finished first, and
        an alias that somebody moved in MLflow, or whose version somebody deleted, is taken over into the record."""
        with answering():
            while True:
                record, aliases = self._at_one_moment()
                moved = {alias: at for alias, at in aliases.items() if at != record.aliases[alias]}
                if not moved:
                    self._close_abandoned(record)
                    return record
                outside = {alias: at for alias, at in moved.items() if not self._is_unfinished(record, alias, at)}
                if outside:
                    self._take_over(record, outside)
                else:
                    self._repair(record)

    def move(self, alias: str, before: str, after: str, how: str, why: str, judged_against: str = NOWHERE) -> bool:
        """Moves `alias` from the version `before` to `after`, where NOWHERE is none, and records it.

        False where the alias was not at `before` any more, a registered version was `judged_against` another champion
        than reigns now, or a rollback's `after` was not the last champion: the entry is void then, and nothing has
        moved. `why` is one line of text. The UserError says so where the move is recorded all the same.
        """
        with answering():
            entry = self._append(alias, before, after, how, why, _who(), judged_against)
        try:
            with answering():
                return self._apply([entry])
        except UserError as error:
            raise UserError(
                f"the move of {alias} from version {before or 'none'} to version {after or 'none'} is recorded, and"
                f" {_FINISHER} finishes it, unless another came before it: {error}"
            ) from None

    def in_mlflow(self) -> dict[str, str]:
        """Where MLflow's aliases point, others than earmark's too; `champion` and `challenger` are always there."""
        with answering():
            try:
                found = self._client.get_registered_model(self._name).aliases
            except MlflowException as error:
                require(error, "RESOURCE_DOES_NOT_EXIST")
                found = {}
        return dict.fromkeys(ALIASES, NOWHERE) | {alias: str(number) for alias, number in found.items()}

    def _at_one_moment(self) -> tuple[Record, dict[str, str]]:
        """The record, and MLflow's aliases at a moment at which it said just that."""
        known = self._moves()
        while True:
            aliases = self.in_mlflow()
            if (again := self._moves()) == known:
                return alias_log.replay(known), {alias: aliases[alias] for alias in ALIASES}
            known = again

    def _is_unfinished(self, record: Record, alias: str, at: str) -> bool:
        """Whether MLflow's `alias` is to be moved from `at` to where the record has it: an entry's author may be about
        to, or was killed before."""
        begun = any(move.may_leave(alias, at) for move in record.unsettled)
        if not begun and all(self._is_abandoned(move) for move in record.pending):
            return False
        return self._can_point_to(record.aliases[alias])

    def _can_point_to(self, number: str) -> bool:
        if number == NOWHERE:
            return True
        try:
            self._client.get_model_version(self._name, number)
        except MlflowException as error:
            require(error, "RESOURCE_DOES_NOT_EXIST")
            return False
        return True

    def _repair(self, record: Record) -> None:
        broken = record.pending[-1]
        at = record.aliases[broken.alias]
        why = f"brings MLflow's aliases into line with move {broken.number}, which was interrupted"
        self._apply([self._append(broken.alias, at, at, "repair", why, _who())])

    def _take_over(self, record: Record, moved: Mapping[str, str]) -> None:
        why = "found moved in MLflow"
        # The challenger's first: an entry that makes a challenger champion would void one that comes after it.
        entries = sorted(moved.items(), key=lambda item: item[0] == CHAMPION)
        self._apply([self._append(alias, record.aliases[alias], at, "outside", why, OUTSIDER) for alias, at in entries])

    def _close_abandoned(self, record: Record) -> None:
        for move in record.pending:
            if self._is_abandoned(move):
                self._mark_applied(move)

    def _is_abandoned(self, move: Move) -> bool:
        return self._clock() - datetime.fromisoformat(move.when) > ABANDONED_AFTER

    def _append(
        self, alias: str, before: str, after: str, how: str, why: str, who: str, judged_against: str = NOWHERE
    ) -> str:
        """Adds an entry to the record; returns its identity, by which the author finds it."""
        entry = {
            alias_log.ID: uuid.uuid4().hex,
            "alias": alias,
            "from": before,
            "to": after,
            "how": how,
            "judged_against": judged_against,
            "who": who,
            "when": self._clock().isoformat(timespec="milliseconds"),
            "why": why,
            "flow_run_id": environment.flow_run_id(),
            MODEL_MADE: self._made(),
        }
        said = f"{alias}: {before or 'none'} → {after or 'none'} ({how}), by {who}: {why}"[:MAX_DESCRIPTION]
        make_model(self._client, self._record_name, RECORD_DESCRIPTION.format(name=self._name))
        # An entry that is written twice, since the answer to the first request was lost, counts once.
        # Numbers go to whoever comes first, and MLflow gives up on who comes second three times.
        for attempt in persistently(*_TRANSIENT):
            with attempt:
                self._client.create_model_version(
                    self._record_name, RECORD_SOURCE, tags=entry, description=said, await_creation_for=0
                )
        return entry[alias_log.ID]

    def _apply(self, entries: list[str]) -> bool:
        """Brings MLflow's aliases into line with the record on behalf of these entries; whether any of them counts."""
        mine = [move for move in self.record().counted if move.id in entries]
        if not mine:
            return False
        while True:
            known = self._moves()
            self._point(alias_log.replay(known).aliases)
            if len(self._moves()) == len(known):
                break
        for move in mine:
            self._mark_applied(move)
        return True

    def _point(self, wanted: Mapping[str, str]) -> None:
        present = self.in_mlflow()
        for alias, number in wanted.items():
            if present[alias] == number:
                continue
            if number == NOWHERE:
                self._client.delete_registered_model_alias(self._name, alias)
                continue
            try:
                # Of two that set an alias which is not there yet, MLflow refuses the second.
                for attempt in persistently("BAD_REQUEST"):
                    with attempt:
                        self._client.set_registered_model_alias(self._name, alias, number)
            except MlflowException as error:
                # A version that somebody deleted: MLflow's alias stays away, which is found, and recorded, next time.
                require(error, "RESOURCE_DOES_NOT_EXIST")

    def _mark_applied(self, move: Move) -> None:
        self._client.set_model_version_tag(self._record_name, str(move.number), APPLIED, "true")

    def _moves(self) -> list[Move]:
        """The record's entries, but for those of a registered model of this name that somebody deleted: its numbers are
        given again."""
        entries = all_versions(self._client, self._record_name)
        made = self._made() if entries else ""
        mine = [each for each in entries if alias_log.ID in each.tags and each.tags.get(MODEL_MADE, made) == made]
        return [_move(each) for each in mine]

    def _made(self) -> str:
        """When the registered model was made, which tells it from another of its name; "" where there is none."""
        try:
            return str(self._client.get_registered_model(self._name).creation_timestamp)
        except MlflowException as error:
            require(error, "RESOURCE_DOES_NOT_EXIST")
            return ""


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _move(entry: ModelVersion) -> Move:
    names = (alias_log.ID, "alias", "from", "to", "how", "judged_against", "who", "when", "why", "flow_run_id")
    texts = (entry.tags.get(name, "") for name in names)
    return Move(int(entry.version), *texts, applied=APPLIED in entry.tags)
