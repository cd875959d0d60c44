"""The settings with which candidates ship. It needs only a YAML parser, so that a benchmark can do without what tests
need."""

import re
from pathlib import Path

from earmark.params import yaml

ROOT = Path(__file__).parents[2]


def candidates(*names: str, **settings: object) -> dict[str, dict]:
    """For `train.candidates`: these, with the settings of params.yaml or docs/training.md, but for `settings`."""
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(train:\n.*?)```", page, re.DOTALL)
    texts = [(ROOT / "params.yaml").read_text(encoding="utf-8"), *blocks]
    shipped = {name: own for text in texts for name, own in yaml.load(text)["train"]["candidates"].items()}
    return {name: shipped[name] | settings for name in names}
