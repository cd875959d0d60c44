"""What the report draws and tells of candidates, of the best one's doubts and mistakes, and of the gate."""

import base64
import dataclasses
import io
import wave

import numpy as np
import pytest
from support.html_page import Page
from support.report_inputs import BANDS, SAMPLE_RATE_HZ, WORDS, chirp, fake_candidate, fake_mistakes, fake_page, wav_of

from earmark.reporting import formats
from earmark.reporting.html.verdict import with_verdict
from earmark.reporting.outcomes import Outcome
from earmark.reporting.verdict import WrittenCheck, WrittenVerdict

HOSTILE = "</table><script>alert(1)</script><!-- <b>&amp; {{ 7 * 7 }} \udcff"
TITLE = "earmark version 2"


@pytest.fixture(scope="module")
def candidates():
    sizes = {"tc_resnet": 480_000, "seed_cnn": 6_500_000}
    return [fake_candidate(name, WORDS[:12], 0.9, saved_bytes=size) for name, size in sizes.items()]


@pytest.fixture(scope="module")
def mistakes():
    return fake_mistakes(WORDS[:12])


@pytest.fixture(scope="module")
def html(candidates, mistakes) -> str:
    return fake_page(*candidates, mistakes=mistakes)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def after(page: Page, heading: str, mark: str) -> list[str]:
    """The texts after the first `mark` that comes after a section's heading."""
    start = len(page.text) - page.text[::-1].index(heading)
    return page.text[page.text.index(mark, start) + 1 :]


def numbers(array: dict) -> np.ndarray:
    """Plotly's own encoding of an array."""
    shape = [int(length) for length in array["shape"].split(",")]
    return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"]).reshape(shape)


@pytest.mark.parametrize(
    ("chart", "cost"), [("size-chart", "saved_bytes"), ("latency-chart", "latency_ms_p50")], ids=["size", "latency"]
)
def test_accuracy_and_cost_are_a_point_a_candidate_with_its_interval(page, candidates, chart, cost):
    points = page.chart(chart)["data"]
    assert page.chart(chart)["layout"]["xaxis"]["type"] == "log"
    for candidate, point in zip(candidates, points, strict=True):
        low, high = candidate.metrics["test"]["accuracy_ci95"]
        (x,), (y,) = point["x"], point["y"]
        assert (point["name"], x, y) == (candidate.name, candidate.metrics[cost], candidate.metrics["test"]["accuracy"])
        assert y - point["error_y"]["arrayminus"][0] == pytest.approx(low)
        assert y + point["error_y"]["array"][0] == pytest.approx(high)


@pytest.mark.parametrize("sizes", [[1], [999, 1001], [20_000, 90_000], [3, 40_000_000_000]])
def test_the_axis_of_costs_has_some_marks_and_not_too_many_and_every_point_within(sizes):
    page = Page(fake_page(*[fake_candidate(f"c{i}", WORDS[:2], 0.8, saved_bytes=n) for i, n in enumerate(sizes)]))
    axis = page.chart("size-chart")["layout"]["xaxis"]
    low, high = (10**bound for bound in axis["range"])
    assert low < min(sizes) <= max(sizes) < high
    assert 1 <= len(axis["tickvals"]) <= 12
    assert all(low <= mark <= high for mark in axis["tickvals"])


def test_a_candidate_keeps_its_colour_and_its_marker_from_chart_to_chart(page, candidates):
    for candidate in candidates:
        looks = {
            (trace["marker"]["color"], trace["marker"]["symbol"])
            for chart in ("size-chart", "latency-chart", "loss-chart", "accuracy-chart", "noise-chart")
            for trace in page.chart(chart)["data"]
            if trace["name"] == candidate.name
        }
        assert len(looks) == 1


def test_seven_candidates_and_more_are_still_told_apart():
    page = Page(fake_page(*[fake_candidate(f"candidate_{i}", WORDS[:2], 0.8) for i in range(14)]))
    looks = {(trace["marker"]["color"], trace["marker"]["symbol"]) for trace in page.chart("size-chart")["data"]}
    assert len(looks) == 14


def test_noise_goes_from_clean_to_the_loudest_whatever_the_order_given(candidates):
    shuffled = dataclasses.replace(candidates[0], metrics=dict(candidates[0].metrics))
    scores = shuffled.metrics["test"]
    shuffled.metrics["test"] = scores | {"accuracy_in_noise": {0: 0.5, 20: 0.8, 5: 0.6, 10: 0.7}}
    page = Page(fake_page(shuffled))
    (curve,) = page.chart("noise-chart")["data"]
    assert curve["y"] == [scores["accuracy"], 0.8, 0.7, 0.6, 0.5]
    levels = ["clean", "20 dB", "10 dB", "5 dB", "0 dB"]
    assert page.chart("noise-chart")["layout"]["xaxis"]["ticktext"] == levels
    assert after(page, "Noise", "0 dB")[:3] == ["tc_resnet", f"{scores['accuracy'] * 100:.1f}\u00a0%", "80.0\u00a0%"]


def test_without_background_noise_the_sections_say_so(candidates):
    scores = {k: v for k, v in candidates[0].metrics["test"].items() if k != "accuracy_in_noise"}
    scores["rejection"] = {k: scores["rejection"][k] for k in ("threshold", "miss_rate", "false_accept_rate")}
    page = Page(fake_page(dataclasses.replace(candidates[0], metrics=candidates[0].metrics | {"test": scores})))
    assert "Not measured: no background noise of this split is as long as a clip." in page.text
    assert "noise-chart" not in page.ids
    assert after(page, "Rejection", "tc_resnet")[:4] == ["0.438", "5.1 %", "1.9 %", "not measured"]


def test_the_reliability_curve_and_its_table_are_the_bins_of_the_reporting_split(page, candidates):
    bins = candidates[0].calibration.query("split == 'test'")
    diagonal, curve, bars = page.chart("calibration-chart")["data"]
    assert diagonal["x"] == diagonal["y"] == [0, 1]
    assert curve["x"] == bins["confidence"].tolist()
    assert curve["y"] == bins["accuracy"].tolist()
    assert bars["y"] == bins["clips"].tolist()
    assert sum(bars["y"]) == candidates[0].metrics["test"]["clips"]
    row = bins.iloc[-1]
    cells = [f"{row[name] * 100:.1f}\u00a0%" for name in ("confidence", "accuracy")]
    edge = f"{row['low'] * 100:.1f}–{row['high'] * 100:.1f}\u00a0%"
    assert after(page, "Calibration", edge)[:3] == [*cells, f"{row['clips']:,}"]
    assert str(candidates[0].metrics["test"]["expected_calibration_error"]) in page.values


@pytest.mark.parametrize("name", BANDS)
def test_slices_have_a_point_a_band_in_the_order_given(page, candidates, name):
    bands = candidates[0].slices.query("split == 'test' and slice == @name")
    (points,) = page.chart(f"{name}-chart")["data"]
    assert page.chart(f"{name}-chart")["layout"]["yaxis"]["ticktext"] == bands["band"].tolist() == BANDS[name]
    assert points["x"] == bands["accuracy"].tolist()
    np.testing.assert_allclose(np.array(points["x"]) + points["error_x"]["array"], bands["high"])
    np.testing.assert_allclose(np.array(points["x"]) - points["error_x"]["arrayminus"], bands["low"])
    row = bands.iloc[0]
    cells = [formats.percent(row["accuracy"]), formats.interval(row["low"], row["high"])]
    assert after(page, f"By {name}", row["band"])[:4] == [*cells, f"{row['clips']:,}", f"{row['speakers']:,}"]


def test_rejection_shows_what_was_measured(page, candidates):
    assert after(page, "Rejection", "tc_resnet")[:4] == ["0.438", "5.1 %", "1.9 %", "3.2"]
    given = list(candidates[0].metrics["test"]["rejection"].values())[:4]
    start = page.values.index(str(given[0]))
    assert [float(value) for value in page.values[start : start + 4]] == given


def test_each_mistake_is_named_and_heard_byte_for_byte_in_the_order_given(page, mistakes):
    sounds = [base64.b64decode(address.split(",", 1)[1]) for address in page.addresses if address.startswith("data:")]
    assert sounds == [mistake.wav for mistake in mistakes]
    with wave.open(io.BytesIO(sounds[0])) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, SAMPLE_RATE_HZ)
    for mistake in mistakes:
        line = page.text.index(f"{mistake.id}, speaker {mistake.speaker}")
        assert page.text[line - 4 : line - 2] == [mistake.label, "predicted as"]
        assert page.text[line - 2] == mistake.predicted
        assert f"({mistake.probability * 100:.1f}" in page.text[line - 1]


def test_a_spectrogram_shows_low_bands_below_and_time_from_left_to_right(mistakes):
    spectrogram = np.full((4, 3), 0.25)
    spectrogram[3, 0], spectrogram[0, 2] = 1.25, 0.75
    page = Page(fake_page(fake_candidate("c", WORDS[:2], 0.8), mistakes=[_with(mistakes[0], spectrogram, 2.0)]))
    (heatmap,) = page.chart("mistake-1-chart")["data"]
    assert numbers(heatmap["z"]).tolist() == [[0, 0, 0, 255], [0, 0, 0, 0], [128, 0, 0, 0]]
    assert (heatmap["x0"], heatmap["dx"]) == (0.25, 0.5)
    assert page.chart("mistake-1-chart")["layout"]["xaxis"]["range"] == [0, 2.0]


def test_digital_silence_is_an_even_spectrogram(mistakes):
    silence = _with(mistakes[0], np.zeros((98, 40)), 1.0)
    page = Page(fake_page(fake_candidate("c", WORDS[:2], 0.8), mistakes=[silence]))
    assert not numbers(page.chart("mistake-1-chart")["data"][0]["z"]).any()


def _with(mistake, spectrogram: np.ndarray, seconds: float):
    return dataclasses.replace(mistake, spectrogram=spectrogram, seconds=seconds, wav=wav_of(chirp(300)))


def test_a_page_with_a_dozen_mistakes_and_all_labels_stays_below_eight_megabytes():
    candidates = [fake_candidate(name, WORDS, 0.9) for name in ("tc_resnet", "seed_cnn", "bc_resnet", "stem_resnet")]
    assert len(fake_page(*candidates, mistakes=fake_mistakes(WORDS)).encode()) < 8e6


def test_before_registration_there_is_no_verdict(page):
    assert sum(text.startswith("Not registered yet") for text in page.text) == 1


def test_the_verdict_stands_in_its_place_and_the_rest_of_the_page_is_as_it_was(html, page):
    checks = (
        WrittenCheck("test accuracy", Outcome.PASSED, "95.2 %", "at least 80 %"),
        WrittenCheck("p99", Outcome.FAILED, "12 ms", "at most 10 ms"),
        WrittenCheck("in noise", Outcome.NOT_MEASURED, "no noise", "at least 30 %"),
    )
    registered = Page(with_verdict(html, WrittenVerdict(False, "too slow", checks), TITLE))
    assert registered.headings == page.headings
    assert (registered.policy, registered.scripts) == (page.policy, page.scripts)
    assert f"Registered as {TITLE}," in registered.text
    assert "challenger" in registered.text
    assert ", not promoted: too slow" in registered.text
    assert after(registered, "Verdict", "Expected")[:12] == [
        *("test accuracy", "passed", "95.2 %", "at least 80 %"),
        *("p99", "failed", "12 ms", "at most 10 ms"),
        *("in noise", "not measured", "no noise", "at least 30 %"),
    ]
    assert registered.tags["strong"] == page.tags["strong"] + 2  # the alias, and what failed
    assert not any(text.startswith("Not registered yet") for text in registered.text)


def test_a_later_verdict_takes_the_place_of_an_earlier_one(html):
    first = with_verdict(html, WrittenVerdict(False, "too slow", ()), TITLE)
    second = WrittenVerdict(True, "better", ())
    assert with_verdict(first, second, TITLE) == with_verdict(html, second, TITLE)


def test_a_hostile_verdict_stays_text(html, page):
    checks = (WrittenCheck(HOSTILE, Outcome.PASSED, HOSTILE, HOSTILE),)
    hostile = with_verdict(html, WrittenVerdict(True, HOSTILE, checks), HOSTILE)
    registered = Page(hostile.encode("utf-8").decode("utf-8"))
    assert registered.tags["script"] == page.tags["script"]
    assert registered.tags["b"] == 0
    assert sum(HOSTILE.replace("\udcff", "?") in text for text in registered.text) == 5
    assert with_verdict(hostile, WrittenVerdict(True, "better", ()), TITLE).count("alert(1)") == 0


def test_a_title_that_looks_like_the_place_of_the_verdict_is_not_taken_for_it(candidates):
    html = fake_page(candidates[0], title="<!-- the gate's verdict --> me <!-- end of the gate's verdict -->")
    registered = Page(with_verdict(html, WrittenVerdict(True, "better", ()), TITLE))
    assert registered.text[0] == "<!-- the gate's verdict --> me <!-- end of the gate's verdict -->"
    assert registered.headings == Page(html).headings
    assert "champion" in registered.text


@pytest.mark.parametrize("text", ["", "<html></html>", "<!-- the gate's verdict --> with no end"])
def test_a_page_without_a_place_for_a_verdict_is_refused(text):
    with pytest.raises(ValueError, match="no place for a verdict"):
        with_verdict(text, WrittenVerdict(True, "better", ()), TITLE)
