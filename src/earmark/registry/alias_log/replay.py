"""The log of alias moves and its replay: entries in, the state of the aliases out. Pure.

docs/alias-log.md explains why the log exists and what its entries mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

CHAMPION, CHALLENGER = ALIASES = ("champion", "challenger")
ID = "move"
"""The tag that holds an entry's id. It also tells log entries from versions of a model."""
NOWHERE = ""
"""The position of an alias that points to no version."""


@dataclass(frozen=True)
class Move:
    """One log entry: who moved `alias` from version `before` to version `after`, when and why.

    Attributes:
        number: MLflow's version number of the entry; the order of the log.
        how: register, promote, rollback, repair (completes the move of a killed process) or outside (someone moved
            the alias in MLflow).
        compared_with: for register, the champion that the gate compared the version with; NOWHERE for none.
        applied: the author has finished bringing MLflow's aliases into line with the log.
    """

    number: int
    id: str
    alias: str
    before: str
    after: str
    how: str
    compared_with: str
    who: str
    when: str
    why: str
    flow_run_id: str
    applied: bool

    def explains(self, alias: str, position: str) -> bool:
        """Whether MLflow's `alias` can be at `position` because the author of this entry stopped half-way.

        A version that becomes champion is for a moment still challenger as well.
        """
        if alias == self.alias:
            return position in (self.before, self.after)
        return alias == CHALLENGER and position == self.after != NOWHERE


@dataclass(frozen=True)
class AliasState:
    """The state that a log describes.

    Attributes:
        aliases: the version that each alias points to, or NOWHERE.
        former_champions: the champions before the current one, latest last.
        valid_moves: the entries that count, oldest first.
    """

    aliases: dict[str, str]
    former_champions: tuple[str, ...]
    valid_moves: tuple[Move, ...]

    @property
    def champion(self) -> str:
        """The version that is champion, or NOWHERE."""
        return self.aliases[CHAMPION]

    @property
    def pending(self) -> tuple[Move, ...]:
        """Valid entries that are not applied yet: their authors are at work, or were killed."""
        return tuple(move for move in self.valid_moves if not move.applied)

    @property
    def unconfirmed(self) -> tuple[Move, ...]:
        """Pending entries after the last applied one, whose author brought MLflow into line with all before it."""
        last_applied = max((move.number for move in self.valid_moves if move.applied), default=0)
        return tuple(move for move in self.pending if move.number > last_applied)

    def moves_of(self, version: str) -> tuple[Move, ...]:
        """Valid entries that moved an alias to `version` or away from it."""
        return tuple(move for move in self.valid_moves if version in (move.before, move.after) and move.how != "repair")


def replay(moves: Sequence[Move]) -> AliasState:
    """Replays log entries in the order of their numbers and returns the state after the last one.

    An entry counts only if its alias was at `before` when the entry was written, and a register only if the champion
    is still the one that it was compared with. So of two moves written at the same time, the second is void. A version
    that becomes champion is no longer challenger. A rollback restores the previous champion.
    """
    aliases = dict.fromkeys(ALIASES, NOWHERE)
    former_champions: list[str] = []
    valid_moves = []
    for move in sorted(moves, key=lambda entry: entry.number):
        if not _is_valid(move, aliases, former_champions):
            continue
        valid_moves.append(move)
        if move.alias == CHAMPION and move.how != "repair":
            _update_former_champions(move, aliases[CHAMPION], former_champions)
            if move.after == aliases[CHALLENGER]:
                aliases[CHALLENGER] = NOWHERE
        aliases[move.alias] = move.after
    return AliasState(aliases, tuple(former_champions), tuple(valid_moves))


def _is_valid(move: Move, aliases: dict[str, str], former_champions: list[str]) -> bool:
    if move.alias not in ALIASES or move.before != aliases[move.alias]:
        return False
    if move.how == "repair":
        return move.before == move.after
    if move.how == "rollback":
        return move.alias == CHAMPION and bool(former_champions) and move.after == former_champions[-1]
    if move.how == "register" and move.compared_with != aliases[CHAMPION]:
        return False
    return move.before != move.after


def _update_former_champions(move: Move, champion: str, former_champions: list[str]) -> None:
    comes_back = champion == NOWHERE and former_champions[-1:] == [move.after]
    if move.how == "rollback" or comes_back:
        former_champions.pop()
    elif champion != NOWHERE:
        former_champions.append(champion)
