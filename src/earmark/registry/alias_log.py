"""The record of where aliases moved, and what it says. Pure: an append-only list in, the one true state out."""

from collections.abc import Sequence
from dataclasses import dataclass

CHAMPION, CHALLENGER = ALIASES = ("champion", "challenger")
ID = "move"
"""The tag that tells an entry of the record from a model's version; it holds the entry's identity."""
NOWHERE = ""
"""Where an alias points that points to no version."""


@dataclass(frozen=True)
class Move:
    """One entry: who moved `alias` from the version `before` to `after`, when and why.

    `how` is register, promote, rollback, repair (of what a killed process began) or outside (by somebody in MLflow);
    `judged_against` is the champion that the verdict of a register is about, NOWHERE for none. An entry is `applied`
    once its author has brought MLflow's aliases into line with the record.
    """

    number: int
    id: str
    alias: str
    before: str
    after: str
    how: str
    judged_against: str
    who: str
    when: str
    why: str
    flow_run_id: str
    applied: bool

    def may_leave(self, alias: str, at: str) -> bool:
        """Whether MLflow's `alias` may be found `at` this version where the entry's author stopped on the way. For a
        moment, a version that becomes champion is challenger as well."""
        if alias == self.alias:
            return at in (self.before, self.after)
        return alias == CHALLENGER and at == self.after != NOWHERE


@dataclass(frozen=True)
class Record:
    """What the entries come to: where each alias points, the champions before the present one (the last one at the
    end), and the entries that count."""

    aliases: dict[str, str]
    reigned: tuple[str, ...]
    counted: tuple[Move, ...]

    @property
    def pending(self) -> tuple[Move, ...]:
        """Entries whose authors may still be bringing MLflow's aliases into line, or were killed."""
        return tuple(move for move in self.counted if not move.applied)

    @property
    def unsettled(self) -> tuple[Move, ...]:
        """The pending entries after the last applied one, whose author brought MLflow's aliases into line with all
        before it."""
        settled = max((move.number for move in self.counted if move.applied), default=0)
        return tuple(move for move in self.pending if move.number > settled)

    def of(self, version: str) -> tuple[Move, ...]:
        """The entries that moved an alias to `version` or away from it."""
        return tuple(move for move in self.counted if version in (move.before, move.after) and move.how != "repair")


def replay(moves: Sequence[Move]) -> Record:
    """What the entries come to, in the order of their numbers.

    An entry counts only if its alias was just then where it says that it was, and the champion still the one that a
    version was judged against: of two that were written at once, the second is void. A version that becomes champion
    is no challenger any more. A rollback takes back the last champion.
    """
    aliases = dict.fromkeys(ALIASES, NOWHERE)
    reigned: list[str] = []
    counted = []
    for move in sorted(moves, key=lambda each: each.number):
        if not _counts(move, aliases, reigned):
            continue
        counted.append(move)
        if move.alias == CHAMPION and move.how != "repair":
            _change_reign(move, aliases[CHAMPION], reigned)
            if move.after == aliases[CHALLENGER]:
                aliases[CHALLENGER] = NOWHERE
        aliases[move.alias] = move.after
    return Record(aliases, tuple(reigned), tuple(counted))


def _counts(move: Move, aliases: dict[str, str], reigned: list[str]) -> bool:
    if move.alias not in ALIASES or move.before != aliases[move.alias]:
        return False
    if move.how == "repair":
        return move.before == move.after
    if move.how == "rollback":
        return move.alias == CHAMPION and bool(reigned) and move.after == reigned[-1]
    if move.how == "register" and move.judged_against != aliases[CHAMPION]:
        return False
    return move.before != move.after


def _change_reign(move: Move, present: str, reigned: list[str]) -> None:
    if move.how == "rollback" or (present == NOWHERE and reigned[-1:] == [move.after]):
        reigned.pop()
    elif present != NOWHERE:
        reigned.append(present)
