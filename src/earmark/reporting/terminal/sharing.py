"""What `earmark fetch` and `earmark publish` say."""

from collections.abc import Sequence


def brought_in(commits: int, objects: int) -> str:
    """The sentence of `earmark fetch`."""
    if not commits and not objects:
        return "nothing new"
    return f"{_count(commits, 'commit')} and {_count(objects, 'data object')}"


def published(objects: int | None, commits: int | None, tags: Sequence[str]) -> str:
    """The sentence of `earmark publish`; None means that there is no such remote."""
    data = "no DVC remote: no data" if objects is None else f"{_count(objects, 'data object')}"
    code = "no git remote: no commits" if commits is None else _count(commits, "commit")
    return f"{data}, {code}, {_count(len(tags), 'tag')}{''.join(f' {tag}' for tag in tags)}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
