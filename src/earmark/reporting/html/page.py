"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earmark.reporting.confusions import count_confusions
from earmark.reporting.html import drawing, templates, verdict
from earmark.reporting.html.charts import themes
from earmark.reporting.leaderboard import HEADINGS, leaderboard
from earmark.reporting.noise import noise_curves
from earmark.reporting.records import CandidateScores, Mistake

if TYPE_CHECKING:
    import pandas as pd


def render(
    title: str,
    best: str,
    split: str,
    candidates: Sequence[CandidateScores],
    mistakes: Sequence[Mistake],
    data: Mapping[str, str],
    validation: Mapping[str, Any],
    provenance: Mapping[str, str],
) -> str:
    """Return the report as an HTML page that loads nothing from elsewhere. The same arguments give the same text.

    best: the name of the best candidate; split: "validation" or "test", that of all figures;
    mistakes: those of the best candidate on that split, worst first; data, provenance: facts by name; validation: the
    content of reports/validation/result.json. `with_verdict` adds the gate's verdict.

    Raises:
        ValueError: the split is another or was not evaluated, or `best` is no candidate.
    """
    chosen = _chosen(candidates, best, split)
    scores = {candidate.name: candidate.metrics[split] for candidate in candidates}
    noise = noise_curves(scores)
    results = _results(chosen, split)
    charts = drawing.of_candidates(candidates, scores, noise) | drawing.of_mistakes(mistakes)
    charts |= drawing.of_best(
        results["confusions"], results["calibration"], results["slices"], scores[best]["accuracy"]
    )
    template = templates.environment().get_template("template.html.jinja")
    text = template.render(
        title=title,
        best=chosen,
        split=split,
        scores=scores,
        candidates=sorted(candidates, key=lambda candidate: -scores[candidate.name]["accuracy"]),
        leaderboard=leaderboard({candidate.name: candidate.metrics for candidate in candidates}, best),
        headings=HEADINGS,
        noise=noise,
        **results,
        mistakes=mistakes,
        charts=charts,
        embedded={"themes": themes(), "charts": {name: chart.to_json() for name, chart in charts.items()}},
        data=data,
        validation=validation,
        provenance=provenance,
        verdict=verdict.section(None),
        **_scripts(),
    )
    return templates.encodable(text)


def _chosen(candidates: Sequence[CandidateScores], best: str, split: str) -> CandidateScores:
    by_name = {candidate.name: candidate for candidate in candidates}
    if best not in by_name:
        raise ValueError(f"best: {best!r} is not a candidate; expected one of {', '.join(by_name)}")
    evaluated = [name for name in ("validation", "test") if name in by_name[best].metrics]
    if split not in evaluated:
        raise ValueError(f"split: {split!r} was not evaluated; expected one of {', '.join(evaluated)}")
    return by_name[best]


def _results(chosen: CandidateScores, split: str) -> dict[str, Any]:
    """Return the results of one candidate on one split, by their names in the template."""

    def of_split(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["split"] == split]

    return {
        "confusions": count_confusions(of_split(chosen.predictions)),
        "labels": of_split(chosen.labels).sort_values(["f1", "label"]),
        "calibration": of_split(chosen.calibration),
        "slices": dict(list(of_split(chosen.slices).groupby("slice", sort=False))),
    }


def _scripts() -> dict[str, Any]:
    """Return the page's scripts, and the content security policy that allows these scripts and no others."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), (templates.FOLDER / "charts.js").read_text(encoding="utf-8")]
    hashes = " ".join(f"'sha256-{_sha256_base64(script)}'" for script in scripts)
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        # Plotly draws heat maps as data: images, and clips are played from data: WAV files.
        f"img-src data:; media-src data:; script-src {hashes}"
    )
    return {"scripts": [Markup(script) for script in scripts], "policy": policy}  # noqa: S704  our own scripts


def _sha256_base64(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
