"""The state that a log of moves describes: one champion at a time, whatever was written at the same time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.registry.alias_log.replay import ALIASES, NOWHERE, Move, replay

WHEN = "2026-01-01T00:00:00+00:00"


def replayed(*entries: tuple[str, ...]):
    """The state after entries (how, alias, before, after) or (how, alias, before, after, compared with)."""
    moves = []
    for number, (how, alias, before, after, *champion) in enumerate(entries, 1):
        compared_with = champion[0] if champion else NOWHERE
        moves.append(
            Move(number, f"{number}", alias, before, after, how, compared_with, "somebody", WHEN, "why", "", True)
        )
    return replay(moves)


def test_nothing_is_anywhere_at_first():
    assert replayed().aliases == {"champion": NOWHERE, "challenger": NOWHERE}


def test_of_two_promotions_written_at_once_the_second_is_void():
    state = replayed(
        ("register", "champion", "", "1"),
        ("register", "champion", "1", "2", "1"),
        ("register", "champion", "1", "3", "1"),
    )
    assert state.aliases["champion"] == "2"
    assert [move.number for move in state.valid_moves] == [1, 2]


def test_a_version_that_becomes_champion_is_no_challenger_any_more():
    state = replayed(
        ("register", "champion", "", "1"), ("register", "challenger", "", "2", "1"), ("promote", "champion", "1", "2")
    )
    assert state.aliases == {"champion": "2", "challenger": NOWHERE}


def test_the_champion_cannot_become_challenger_by_a_verdict_that_was_overtaken():
    state = replayed(("promote", "champion", "", "1"), ("register", "challenger", "", "1"))
    assert state.aliases == {"champion": "1", "challenger": NOWHERE}


def test_a_verdict_about_a_champion_that_reigns_no_more_makes_no_challenger():
    overtaken = ("register", "challenger", "", "3", "1")
    promotions = (("promote", "champion", "", "1"), ("promote", "champion", "1", "2"))
    assert replayed(*promotions, overtaken).aliases["challenger"] == NOWHERE
    assert replayed(*promotions, overtaken, ("register", "challenger", "", "3", "2")).aliases["challenger"] == "3"


def test_rollbacks_go_back_champion_by_champion():
    promotions = [
        ("promote", "champion", before, after) for before, after in (("", "1"), ("1", "2"), ("2", "3"), ("3", "1"))
    ]
    assert replayed(*promotions).former_champions == ("1", "2", "3")
    once = (*promotions, ("rollback", "champion", "1", "3"))
    twice = (*once, ("rollback", "champion", "3", "2"))
    assert (replayed(*once).aliases["champion"], replayed(*once).former_champions) == ("3", ("1", "2"))
    assert (replayed(*twice).aliases["champion"], replayed(*twice).former_champions) == ("2", ("1",))
    again = (*twice, ("promote", "champion", "2", "4"))
    assert replayed(*again).former_champions == ("1", "2")


@pytest.mark.parametrize("after", ["1", "3", ""])
def test_a_rollback_to_anything_but_the_last_champion_is_void(after):
    state = replayed(
        ("promote", "champion", "", "1"),
        ("promote", "champion", "1", "2"),
        ("promote", "champion", "2", "3"),
        ("rollback", "champion", "3", after),
    )
    assert state.aliases["champion"] == "3"
    assert len(state.valid_moves) == 3


def test_a_champion_whose_alias_was_taken_away_in_mlflow_is_the_one_before():
    state = replayed(
        ("promote", "champion", "", "1"), ("promote", "champion", "1", "2"), ("outside", "champion", "2", "")
    )
    assert (state.aliases["champion"], state.former_champions) == (NOWHERE, ("1", "2"))


def test_a_champion_that_comes_back_at_once_is_not_its_own_predecessor():
    state = replayed(
        ("promote", "champion", "", "1"),
        ("promote", "champion", "1", "2"),
        ("outside", "champion", "2", ""),
        ("promote", "champion", "", "2"),
    )
    assert (state.aliases["champion"], state.former_champions) == ("2", ("1",))


def test_a_repair_moves_nothing():
    state = replayed(
        ("promote", "champion", "", "1"), ("repair", "champion", "1", "1"), ("repair", "champion", "1", "2")
    )
    assert (state.aliases["champion"], state.former_champions, len(state.valid_moves)) == ("1", (), 2)


def test_entries_of_other_aliases_count_for_nothing():
    assert replayed(("promote", "staging", "", "1")).valid_moves == ()


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["register", "promote", "rollback", "repair", "outside", "nonsense"]),
        st.sampled_from([*ALIASES, "other"]),
        *[st.sampled_from(["", "1", "2", "3"])] * 3,
    )
)


@given(ENTRIES)
def test_entries_that_count_follow_on_each_other_whatever_was_written(entries):
    state = replayed(*entries)
    for alias in ALIASES:
        at = NOWHERE
        for move in state.valid_moves:
            if move.alias == alias:
                assert move.before == at or alias == "challenger"  # which a new champion may have cleared
                at = move.after
        if alias == "champion":
            assert state.aliases[alias] == at
            assert state.former_champions[-1:] != (at,)
    assert all(one != other for one, other in zip(state.former_champions, state.former_champions[1:], strict=False))


@given(ENTRIES, ENTRIES)
def test_what_is_appended_changes_nothing_of_what_counted_before(entries, more):
    before = replayed(*entries).valid_moves
    assert replayed(*entries, *more).valid_moves[: len(before)] == before
