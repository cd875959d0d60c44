"""The report: one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark.report import formats
from earmark.report.charts import Chart, confusion_chart, curve_chart, flow_chart, themes
from earmark.report.confusions import Confusions, count_confusions

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
_METRICS_OF_SPLIT = {"validation": "validation", "testing": "test"}


@dataclass(frozen=True)
class CandidateReport:
    """What the report says of one candidate.

    metrics: {"validation": scores, "test": scores (absent without a test split), "parameters": n, "saved_bytes": n,
        "latency_ms_p50": ms a clip, "train_seconds": s}; scores: {"accuracy": 0 to 1,
        "accuracy_ci95": [low, high], "macro_f1": 0 to 1, "clips": n, "speakers": n}.
    history: a row an epoch: epoch, loss, accuracy, validation_loss, validation_accuracy, seconds.
    predictions: a row a clip: id, speaker, split ("validation" or "testing"), label, predicted, probability (0 to 1).
    per_label: a row a label, of the reporting split: label, precision, recall, f1 (0 to 1), clips.
    """

    name: str
    metrics: dict
    history: pd.DataFrame
    predictions: pd.DataFrame
    per_label: pd.DataFrame


def render(
    title: str,
    best: str,
    reporting_split: str,
    candidates: Sequence[CandidateReport],
    data: Mapping[str, str],
    quarantine: Sequence[Mapping[str, str]],
    origin: Mapping[str, str],
) -> str:
    """Return the report as an HTML page that loads nothing from elsewhere; same arguments, same text.

    best: the chosen candidate's name; reporting_split: "validation" or "testing", the split that the figures are of;
    data, origin: facts by name, shown as they are; quarantine: a mapping a clip, with `id` and `reason`.
    Raises ValueError for another split, and for a best that is no candidate.
    """
    scores_key = _scores_key(reporting_split)
    chosen = _chosen(candidates, best)
    confusions = count_confusions(chosen.predictions[chosen.predictions["split"] == reporting_split])
    charts = _charts(confusions, {candidate.name: candidate.history for candidate in candidates})
    template = _environment().get_template("template.html.jinja")
    page = template.render(
        title=title,
        best=chosen,
        split="test" if reporting_split == "testing" else reporting_split,
        scores_key=scores_key,
        candidates=sorted(candidates, key=lambda candidate: -candidate.metrics[scores_key]["accuracy"]),
        confusions=confusions,
        per_label=chosen.per_label.sort_values(["f1", "label"]).to_dict("records"),
        charts=charts,
        embedded={"themes": themes(), "charts": {name: chart.to_json() for name, chart in charts.items()}},
        data=data,
        quarantine=quarantine,
        origin=origin,
        **_scripts(),
    )
    # Half a surrogate pair, as a file name can hold one, has no UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def _scores_key(reporting_split: str) -> str:
    if reporting_split not in _METRICS_OF_SPLIT:
        raise ValueError(f"reporting_split is {reporting_split!r}; allowed: {', '.join(_METRICS_OF_SPLIT)}")
    return _METRICS_OF_SPLIT[reporting_split]


def _chosen(candidates: Sequence[CandidateReport], best: str) -> CandidateReport:
    by_name = {candidate.name: candidate for candidate in candidates}
    if best not in by_name:
        raise ValueError(f"best is {best!r}; allowed: {', '.join(by_name)}")
    return by_name[best]


def _charts(confusions: Confusions, histories: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    return {
        "confusion-chart": confusion_chart(confusions),
        "flow-chart": flow_chart(confusions),
        "loss-chart": curve_chart(histories, ["validation_loss", "loss"], ".2~f"),
        "accuracy-chart": curve_chart(histories, ["validation_accuracy"], ".1~%"),
    }


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    whitespace = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, **whitespace
    )
    for name in ("percent", "count", "size", "duration", "decimals"):
        environment.filters[name] = getattr(formats, name)
    return environment


def _scripts() -> dict[str, Any]:
    """Return the page's scripts and the policy that lets the browser run these and load nothing."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), (_FOLDER / "charts.js").read_text(encoding="utf-8")]
    hashes = " ".join(f"'sha256-{_sha256_base64(script)}'" for script in scripts)
    # Plotly draws a heat map as an image that the page itself holds.
    nothing_else = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return {"scripts": [Markup(script) for script in scripts], "policy": f"{nothing_else}; script-src {hashes}"}


def _sha256_base64(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
