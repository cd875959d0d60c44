"""What the record of moves comes to: one champion at a time, whatever was written at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.registry.alias_log import ALIASES, NOWHERE, Move, replay

WHEN = "2026-01-01T00:00:00+00:00"


def record(*entries: tuple[str, ...]):
    """The record of entries (how, alias, before, after) or (how, alias, before, after, judged against)."""
    moves = []
    for number, (how, alias, before, after, *champion) in enumerate(entries, 1):
        compared_with = champion[0] if champion else NOWHERE
        moves.append(
            Move(number, f"{number}", alias, before, after, how, compared_with, "somebody", WHEN, "why", "", True)
        )
    return replay(moves)


def test_nothing_is_anywhere_at_first():
    assert record().aliases == {"champion": NOWHERE, "challenger": NOWHERE}


def test_of_two_promotions_written_at_once_the_second_is_void():
    found = record(
        ("register", "champion", "", "1"),
        ("register", "champion", "1", "2", "1"),
        ("register", "champion", "1", "3", "1"),
    )
    assert found.aliases["champion"] == "2"
    assert [move.number for move in found.valid_moves] == [1, 2]


def test_a_version_that_becomes_champion_is_no_challenger_any_more():
    found = record(
        ("register", "champion", "", "1"), ("register", "challenger", "", "2", "1"), ("promote", "champion", "1", "2")
    )
    assert found.aliases == {"champion": "2", "challenger": NOWHERE}


def test_the_champion_cannot_become_challenger_by_a_verdict_that_was_overtaken():
    found = record(("promote", "champion", "", "1"), ("register", "challenger", "", "1"))
    assert found.aliases == {"champion": "1", "challenger": NOWHERE}


def test_a_verdict_about_a_champion_that_reigns_no_more_makes_no_challenger():
    overtaken = ("register", "challenger", "", "3", "1")
    reigns = (("promote", "champion", "", "1"), ("promote", "champion", "1", "2"))
    assert record(*reigns, overtaken).aliases["challenger"] == NOWHERE
    assert record(*reigns, overtaken, ("register", "challenger", "", "3", "2")).aliases["challenger"] == "3"


def test_rollbacks_go_back_champion_by_champion():
    reigns = [
        ("promote", "champion", before, after) for before, after in (("", "1"), ("1", "2"), ("2", "3"), ("3", "1"))
    ]
    assert record(*reigns).former_champions == ("1", "2", "3")
    once = (*reigns, ("rollback", "champion", "1", "3"))
    twice = (*once, ("rollback", "champion", "3", "2"))
    assert (record(*once).aliases["champion"], record(*once).former_champions) == ("3", ("1", "2"))
    assert (record(*twice).aliases["champion"], record(*twice).former_champions) == ("2", ("1",))
    again = (*twice, ("promote", "champion", "2", "4"))
    assert record(*again).former_champions == ("1", "2")


@pytest.mark.parametrize("after", ["1", "3", ""])
def test_a_rollback_to_anything_but_the_last_champion_is_void(after):
    found = record(
        ("promote", "champion", "", "1"),
        ("promote", "champion", "1", "2"),
        ("promote", "champion", "2", "3"),
        ("rollback", "champion", "3", after),
    )
    assert found.aliases["champion"] == "3" and len(found.valid_moves) == 3


def test_a_champion_whose_alias_was_taken_away_in_mlflow_is_the_one_before():
    gone = record(("promote", "champion", "", "1"), ("promote", "champion", "1", "2"), ("outside", "champion", "2", ""))
    assert (gone.aliases["champion"], gone.former_champions) == (NOWHERE, ("1", "2"))


def test_a_champion_that_comes_back_at_once_is_not_its_own_predecessor():
    found = record(
        ("promote", "champion", "", "1"),
        ("promote", "champion", "1", "2"),
        ("outside", "champion", "2", ""),
        ("promote", "champion", "", "2"),
    )
    assert (found.aliases["champion"], found.former_champions) == ("2", ("1",))


def test_a_repair_moves_nothing():
    found = record(("promote", "champion", "", "1"), ("repair", "champion", "1", "1"), ("repair", "champion", "1", "2"))
    assert (found.aliases["champion"], found.former_champions, len(found.valid_moves)) == ("1", (), 2)


def test_entries_of_other_aliases_count_for_nothing():
    assert record(("promote", "staging", "", "1")).valid_moves == ()


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["register", "promote", "rollback", "repair", "outside", "nonsense"]),
        st.sampled_from([*ALIASES, "other"]),
        *[st.sampled_from(["", "1", "2", "3"])] * 3,
    )
)


@given(ENTRIES)
def test_entries_that_count_follow_on_each_other_whatever_was_written(entries):
    found = record(*entries)
    for alias in ALIASES:
        at = NOWHERE
        for move in found.valid_moves:
            if move.alias == alias:
                assert move.before == at or alias == "challenger"  # which a new champion may have cleared
                at = move.after
        if alias == "champion":
            assert found.aliases[alias] == at
            assert found.former_champions[-1:] != (at,)
    assert all(one != other for one, other in zip(found.former_champions, found.former_champions[1:], strict=False))


@given(ENTRIES, ENTRIES)
def test_what_is_appended_changes_nothing_of_what_counted_before(entries, more):
    before = record(*entries).valid_moves
    assert record(*entries, *more).valid_moves[: len(before)] == before
