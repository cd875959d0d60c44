"""The report: what it shows are the numbers given, hostile text stays text, and nothing is loaded from elsewhere."""

import base64
import hashlib
import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix
from support.html_page import Page
from support.report_inputs import DATA, HOSTILE, PROVENANCE, VALIDATION, WORDS, fake_candidate, fake_mistakes, fake_page

from earmark.reporting import formats
from earmark.reporting.confusions import count_confusions
from earmark.reporting.html.page import CandidateScores, render

SECTIONS = [
    *("Leaderboard", "Verdict", "Accuracy and cost", "Training", "Confusion matrix", "Flow of clips", "Noise"),
    *("Calibration", "Slices", "Rejection", "Worst mistakes", "Data set", "Provenance"),
]
CHARTS = [
    *("size-chart", "latency-chart", "loss-chart", "accuracy-chart", "confusion-chart", "flow-chart", "noise-chart"),
    *("calibration-chart", "loudness-chart", "length-chart", "mistake-1-chart", "mistake-2-chart", "mistake-3-chart"),
]


def page_of(*candidates: CandidateScores, **facts) -> Page:
    return Page(fake_page(*candidates, **facts))


@pytest.fixture(scope="module")
def candidates() -> list[CandidateScores]:
    accuracies = {"tc_resnet": 0.95, "seed_cnn": 0.81, "bc_resnet": 0.93}
    return [fake_candidate(name, WORDS, accuracy) for name, accuracy in accuracies.items()]


@pytest.fixture(scope="module")
def page(candidates) -> Page:
    return page_of(*candidates, mistakes=fake_mistakes(WORDS, 3))


def test_the_page_has_each_section_and_every_anchor_has_its_target(page):
    assert page.headings == SECTIONS
    targets = {address[1:] for address in page.addresses if address.startswith("#")}
    assert len(targets) == len(SECTIONS)
    assert targets <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_every_chart_has_its_place_and_its_caption(page):
    assert {*CHARTS, *(f"{name}-caption" for name in CHARTS)} <= set(page.ids)
    assert page.tags["figure"] == page.tags["figcaption"] == len(CHARTS)
    assert all(page.chart(name)["data"] for name in CHARTS)


def test_nothing_is_loaded_from_elsewhere(page):
    inside = [address for address in page.addresses if address.startswith("data:audio/wav;base64,")]
    assert len(inside) == page.tags["audio"] == 3
    assert all(address.startswith("#") for address in page.addresses if address not in inside)
    assert not page.tags.keys() & {"link", "iframe", "img", "object", "embed", "base"}
    assert "@import" not in page.style
    assert "url(" not in page.style
    assert "@font-face" not in page.style


def test_the_policy_allows_these_scripts_and_no_other(page):
    scripts = [text for kind, text in page.scripts if kind != "application/json"]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts]
    directives = dict(directive.split(maxsplit=1) for directive in page.policy.split("; "))
    assert directives["script-src"].split() == hashes
    assert directives["default-src"] == "'none'"
    assert "http" not in page.policy
    assert sum("plotly.js v" in text[:100] for text in scripts) == 1


def test_the_leaderboard_shows_the_numbers_given_most_accurate_first(page, candidates):
    expected = []
    for candidate in sorted(candidates, key=lambda c: c.metrics["test"]["accuracy"], reverse=True):
        m = candidate.metrics
        expected += [m["test"]["accuracy"], m["test"]["macro_f1"], m["validation"]["accuracy"], m["parameters"]]
        expected += [m["multiply_adds"], m["saved_bytes"], m["latency_ms_p50"], m["latency_ms_p99"]]
        expected += [m["train_seconds"], m["train_clips_per_second"]]
    assert [float(value) for value in page.values[: len(expected)]] == expected
    for interval in ("accuracy_ci95", "macro_f1_ci95"):
        low, high = candidates[0].metrics["test"][interval]
        assert f"{low * 100:.1f}–{high * 100:.1f}\u00a0%" in page.text


def test_the_best_is_marked_in_words_once_even_where_it_is_not_the_most_accurate(candidates):
    text = page_of(candidates[1], candidates[0]).text
    assert text.count("best") == 1
    assert text[text.index("best") - 1] == "seed_cnn"


def test_without_a_test_split_the_figures_are_those_of_validation():
    candidate = fake_candidate("tc_resnet", WORDS[:10], 0.9, "validation")
    page = page_of(candidate, split="validation")
    assert "validation split" in page.text
    assert "test split" not in " ".join(page.text)
    assert float(page.values[0]) == candidate.metrics["validation"]["accuracy"]


def flows(page: Page) -> dict[tuple[str, str], int]:
    (sankey,) = page.chart("flow-chart")["data"]
    names, link = sankey["node"]["customdata"], sankey["link"]
    pairs = [(names[s], names[t]) for s, t in zip(link["source"], link["target"], strict=True)]
    assert len(set(pairs)) == len(pairs)
    return dict(zip(pairs, link["value"], strict=True))


def test_the_flows_are_the_cross_table_of_the_reporting_split(page, candidates):
    predictions = candidates[0].predictions.query("split == 'test'")
    table = pd.crosstab(predictions["label"], predictions["predicted"]).stack()
    assert flows(page) == table[table > 0].to_dict()


def heatmap_labels(heatmap: dict) -> list[str]:
    return [row[0][0] for row in heatmap["customdata"]]


def test_the_matrix_holds_the_same_counts_and_shares_as_the_cross_table(page, candidates):
    predictions = candidates[0].predictions.query("split == 'test'")
    counts = pd.crosstab(predictions["label"], predictions["predicted"])
    shares = pd.crosstab(predictions["label"], predictions["predicted"], normalize="index")
    (heatmap,) = page.chart("confusion-chart")["data"]
    assert list(counts.index) == list(counts.columns) == heatmap_labels(heatmap) == sorted(WORDS)
    assert [[int(text or 0) for text in row] for row in heatmap["text"]] == counts.to_numpy().tolist()
    np.testing.assert_allclose(heatmap["z"], shares.to_numpy())


def test_the_nodes_of_both_sides_are_in_one_order_from_top_to_bottom(page):
    node = page.chart("flow-chart")["data"][0]["node"]
    nodes = pd.DataFrame({"name": node["customdata"], "x": node["x"], "y": node["y"]})
    for _, side in nodes.groupby("x"):
        assert side["name"].tolist() == sorted(WORDS)
        assert side["y"].is_monotonic_increasing
        assert side["y"].between(0, 1, inclusive="neither").all()


def test_a_label_that_is_never_predicted_has_no_node_on_that_side_and_a_row_of_its_own():
    predictions = pd.DataFrame({"label": ["a", "a", "b"], "predicted": ["a", "c", "a"]})
    confusions = count_confusions(predictions)
    assert confusions.labels == ["a", "b", "c"]
    assert confusions.counts.tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert confusions.shares.tolist() == [[0.5, 0, 0.5], [1, 0, 0], [0, 0, 0]]
    assert confusions.errors == [("a", "c", 1, 0.5), ("b", "a", 1, 1.0)]


def test_confusions_are_counted_over_every_label_of_either_column():
    true, predicted = np.random.default_rng(1).choice(["b", "B", "é", "10", "9"], size=(2, 500))
    predictions = pd.DataFrame({"label": true, "predicted": np.where(predicted == "b", "only predicted", predicted)})
    confusions = count_confusions(predictions)
    assert confusions.labels == ["10", "9", "B", "b", "only predicted", "é"]
    expected = confusion_matrix(predictions["label"], predictions["predicted"], labels=confusions.labels)
    assert confusions.counts.tolist() == expected.tolist()


def test_errors_are_listed_most_clips_first(page):
    start = page.text.index("Share of true label")
    true, predicted, clips = page.text[start + 1 : start + 4]
    errors = {pair: clips for pair, clips in flows(page).items() if pair[0] != pair[1]}
    assert int(clips) == errors[true, predicted] == max(errors.values())


def test_labels_are_listed_worst_first(page, candidates):
    worst = candidates[0].labels.query("split == 'test'").sort_values("f1").iloc[0]
    start = page.text.index("Label", page.text.index("Precision") - 3)
    assert page.text[start + 5] == worst["label"]


def test_hostile_text_stays_text():
    candidate = fake_candidate(HOSTILE[0], HOSTILE, 0.7)
    facts = {"data": {text: text for text in HOSTILE}, "provenance": {text: text for text in HOSTILE}}
    page = page_of(candidate, mistakes=fake_mistakes(HOSTILE), title=HOSTILE[0], **facts)
    words = WORDS[: len(HOSTILE)]
    plain = page_of(fake_candidate("tc_resnet", words, 0.7), mistakes=fake_mistakes(words), **facts)
    assert page.tags["script"] == 3
    assert page.tags["b"] == 0
    assert page.tags["br"] == plain.tags["br"]
    for text in HOSTILE:
        assert page.text.count(text) >= 5


def strings(value) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_plotly_gets_hostile_labels_without_anything_that_it_would_interpret():
    page = page_of(fake_candidate(HOSTILE[1], HOSTILE, 0.7))
    for name in CHARTS[:7]:
        texts = strings(page.chart(name))
        assert any("&lt;b&gt;bold&lt;/b&gt;" in text for text in texts)
        assert not any(mark in text for text in texts for mark in ("<script", "bold</b>", "<!--", "%{x} $a$"))


def test_the_embedded_data_cannot_end_its_element():
    html = fake_page(fake_candidate("c", HOSTILE, 0.7), mistakes=fake_mistakes(HOSTILE))
    embedded = html.split('id="charts">', 1)[1].split("</script>", 1)[0]
    assert not set("<>&'\u2028") & set(embedded)
    assert json.loads(embedded)["charts"]


def test_half_a_surrogate_pair_as_a_file_name_can_hold_still_gives_a_page_that_can_be_written():
    html = fake_page(fake_candidate("c", WORDS[:2], 0.7), data={"source": "\udcff.zip"}, title="\udcff")
    assert "?.zip" in html.encode("utf-8").decode("utf-8")


@pytest.mark.parametrize(("labels", "accuracy"), [(WORDS[:2], 0.6), (WORDS, 0.8), (WORDS[:2], 1.0), (WORDS, 1.0)])
def test_any_number_of_labels_with_errors_or_without(labels, accuracy):
    page = page_of(fake_candidate("tc_resnet", labels, accuracy, clips=700))
    assert ("There are no errors." in page.text) == (accuracy == 1.0)
    assert len(page.chart("confusion-chart")["data"][0]["z"]) == len(labels)
    assert all(true == predicted for true, predicted in flows(page)) == (accuracy == 1.0)


def test_same_arguments_same_bytes(candidates):
    first, second = (fake_page(*candidates, mistakes=fake_mistakes(WORDS)) for _ in range(2))
    assert first == second


def test_facts_are_shown_as_they_are(page):
    for name, value in [*DATA.items(), *PROVENANCE.items()]:
        assert page.text[page.text.index(name) + 1] == value


def test_the_quarantine_is_listed_with_reasons(page, candidates):
    [clip] = VALIDATION["quarantine"]
    assert page.text[page.text.index(clip["id"]) + 1] == clip["reason"]
    without = page_of(*candidates, validation=VALIDATION | {"quarantine": []})
    assert "Quarantined clips and refused files, with reasons" not in without.text


def test_validation_is_shown_as_its_own_page_shows_it(page):
    assert "Validation: 5130 clips accepted, 1 quarantined." in page.text
    start = page.text.index("Broken by") + 1
    broken = "5: yes/<b>_nohash_0.wav, b.wav, c.wav, and 2 more"
    assert page.text[start : start + 5] == ["clips", "decodable", "quarantined", "<i>1 of 5131</i>", broken]
    assert page.text[start + 5 : start + 9] == ["data set", "at least 20 clips of each label", "passed", "140 to 150"]


@pytest.mark.parametrize(("best", "split"), [("nobody", "test"), ("tc_resnet", "training")])
def test_an_unknown_best_or_split_is_refused(candidates, best, split):
    with pytest.raises(ValueError, match="expected one of "):
        render("Report", best, split, candidates, [], DATA, VALIDATION, PROVENANCE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.percent(0.94249), "94.2 %"),
        (formats.percent(1.0), "100.0 %"),
        (formats.percent(0.94249, 2), "94.25 %"),
        (formats.kilobytes(1_234_567), "1,235 kB"),
        (formats.significant(0.5), "0.5"),
        (formats.significant(16000.0), "16000"),
        (formats.significant(1.23456, 3), "1.23"),
        (formats.minute(datetime(2026, 3, 1, 9, 5, tzinfo=UTC)), "2026-03-01 09:05 UTC"),
        (formats.percent(0.97216, 2), "97.22 %"),
        (formats.percent(0.2, 0), "20 %"),
        (formats.count(1_234_567), "1,234,567"),
        (formats.size(999), "999 B"),
        (formats.size(1_000), "1.0 kB"),
        (formats.size(412_345), "412 kB"),
        (formats.size(999_999), "1.0 MB"),
        (formats.size(5_000_000_000_000), "5000 GB"),
        (formats.duration(0.04), "0.0 s"),
        (formats.duration(200.4), "3 min 20 s"),
        (formats.duration(7_260), "2 h 1 min"),
        (formats.percent(float("nan")), "–"),
        (formats.milliseconds(0.2), "0.2 ms"),
        (formats.milliseconds(1234.5), "1,234 ms"),
        (formats.decimals(0.12345), "0.123"),
        (formats.decimals(float("nan")), "–"),
    ],
)
def test_numbers_are_written_for_people(text, expected):
    assert text.replace("\u00a0", " ") == expected
