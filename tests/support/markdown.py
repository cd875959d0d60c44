"""The parts of a Markdown page that a test can check: code blocks, inline code, links, headings."""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)\n```", re.DOTALL)
_COMMENT = re.compile(r"(^|\s)#\s.*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, and the HTML comment right above it, "" if there is none."""

    language: str
    body: str
    mark: str

    @property
    def commands(self) -> list[str]:
        """The commands of a block in `sh`: one a line, continued lines joined, comments removed."""
        lines = self.body.replace("\\\n", " ").splitlines()
        return [command for line in lines if (command := _COMMENT.sub("", line).strip())]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    matches = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(match["language"], match["body"], match["mark"] or "") for match in matches]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    """What stands in backticks outside blocks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def links(page: Path) -> list[tuple[str, str]]:
    """(path, anchor) of each link and picture that is not on the web; an empty path is the page itself."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [(path, anchor) for path, _, anchor in (target.partition("#") for target in targets) if "://" not in path]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
