"""Moves the aliases of one registered model, through a log that MLflow's own aliases follow.

`promote`, `rollback` and `admit` move an alias, `history` tells who moved it. MLflow's aliases have no history and no
compare-and-set, and its client has no transactions. So the log is the truth (log.py), `replay` computes the state from
it, and MLflow's aliases are a copy. Whoever writes the copy has an entry in the log that is not yet marked as applied,
and reads the log again after writing. docs/alias-log.md explains the states, repair, take-over and abandonment.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from earmark.errors import UserError
from earmark.registry.alias_log.log import OUTSIDER, AliasLog
from earmark.registry.alias_log.replay import ALIASES, CHAMPION, NOWHERE, AliasState, Move, replay
from earmark.tracking.registered_model import RegisteredModel

ABANDONED_AFTER = timedelta(minutes=10)
"""An entry that is still not applied after this time belongs to a killed process."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Aliases:
    """The aliases `champion` and `challenger` of a registered model. Nothing else moves them.

    Every method raises UserError if MLflow does not answer. The methods that move an alias return False, and nothing
    moves, if another move came first; their `why` is one line. If MLflow stops answering during a move, the error's
    text tells whether the move is in the log all the same.
    """

    def __init__(self, model: RegisteredModel, log: RegisteredModel, clock: Callable[[], datetime] = _utc_now):
        self._model, self._clock = model, clock
        self._log = AliasLog(model, log, clock)

    def promote(self, number: str, champion: str, why: str) -> bool:
        """Makes version `number` champion in place of version `champion`, NOWHERE for none."""
        return self._move(CHAMPION, champion, number, "promote", why)

    def rollback(self, state: AliasState, why: str) -> bool:
        """Makes the previous champion of `state` champion again."""
        return self._move(CHAMPION, state.champion, state.former_champions[-1], "rollback", why)

    def admit(self, alias: str, number: str, state: AliasState, why: str) -> bool:
        """Points `alias` to version `number`, which was compared with the champion of `state`."""
        return self._move(alias, state.aliases[alias], number, "register", why, state.champion)

    def history(self, number: str) -> tuple[Move, ...]:
        """The moves to version `number` and away from it, oldest first."""
        return self.state().moves_of(number)

    def state(self) -> AliasState:
        """Reads the log and returns its state; changes nothing."""
        return replay(self._log.moves())

    def reconcile(self) -> AliasState:
        """Brings the log and MLflow's aliases into line, and returns the state. Call it before a move.

        Completes what a killed process began. An alias that someone moved in MLflow, or whose version someone deleted,
        is taken over into the log.
        """
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

    def _move(self, alias: str, before: str, after: str, how: str, why: str, compared_with: str = NOWHERE) -> bool:
        """Moves `alias` from version `before` to version `after`, and logs it."""
        entry_id = self._log.append(alias, before, after, how, why, compared_with=compared_with)
        try:
            return self._apply([entry_id])
        except UserError as error:
            raise UserError(
                f"{alias}: the move from version {before or 'none'} to version {after or 'none'} is recorded but not"
                f" finished: {error}; the next 'earmark register', 'earmark registry promote' or 'earmark registry"
                " rollback' finishes it, unless another move came first"
            ) from None

    def _positions(self) -> dict[str, str]:
        """Where MLflow's aliases point."""
        aliases = self._model.aliases()
        return {alias: aliases.get(alias, NOWHERE) for alias in ALIASES}

    def _snapshot(self) -> tuple[AliasState, dict[str, str]]:
        """The log's state, and where MLflow's aliases pointed while the log did not change."""
        moves = self._log.moves()
        while True:
            positions = self._positions()
            if (latest := self._log.moves()) == moves:
                return replay(moves), positions
            moves = latest

    def _is_unfinished(self, state: AliasState, alias: str, position: str) -> bool:
        """Whether MLflow's `alias` is at `position` because a move of ours is under way or was interrupted, so that it
        has yet to follow the log; otherwise someone else moved it."""
        is_explained = any(move.explains(alias, position) for move in state.unconfirmed)
        if not is_explained and all(self._is_abandoned(move) for move in state.pending):
            return False
        number = state.aliases[alias]
        return number == NOWHERE or self._model.has_version(number)

    def _repair(self, state: AliasState) -> None:
        """Applies the log's state on behalf of the last pending entry."""
        interrupted = state.pending[-1]
        position = state.aliases[interrupted.alias]
        why = f"brings MLflow's aliases into line with move {interrupted.number}, which was interrupted"
        self._apply([self._log.append(interrupted.alias, position, position, "repair", why)])

    def _take_over(self, state: AliasState, positions: Mapping[str, str]) -> None:
        """Logs what someone did in MLflow, so that the log says the same."""
        why = "found moved in MLflow"
        # Challenger first: an entry that makes the challenger champion would void a later one for the challenger.
        ordered = sorted(positions.items(), key=lambda item: item[0] == CHAMPION)
        self._apply(
            [self._log.append(alias, state.aliases[alias], at, "outside", why, who=OUTSIDER) for alias, at in ordered]
        )

    def _close_abandoned(self, state: AliasState) -> None:
        for move in state.pending:
            if self._is_abandoned(move):
                self._log.mark_applied(move)

    def _is_abandoned(self, move: Move) -> bool:
        return self._clock() - datetime.fromisoformat(move.when) > ABANDONED_AFTER

    def _apply(self, entry_ids: list[str]) -> bool:
        """Brings MLflow's aliases into line with the log on behalf of these entries; False if none of them is valid."""
        moves = [move for move in self.state().valid_moves if move.id in entry_ids]
        if not moves:
            return False
        while True:
            log = self._log.moves()
            self._set_mlflow_aliases(replay(log).aliases)
            if len(self._log.moves()) == len(log):
                break
        for move in moves:
            self._log.mark_applied(move)
        return True

    def _set_mlflow_aliases(self, positions: Mapping[str, str]) -> None:
        current = self._positions()
        for alias, number in positions.items():
            if current[alias] == number:
                continue
            if number == NOWHERE:
                self._model.delete_alias(alias)
            else:
                # Someone may have deleted the version. Then MLflow's alias stays; the next `reconcile` takes that over.
                self._model.set_alias(alias, number)
