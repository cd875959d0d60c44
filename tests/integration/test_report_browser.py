"""The report in a real browser, Debian's Chromium: drawn, heard, and reached by keyboard, with nothing but itself."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.chromium import CHROMIUM, DRAWN, Tab, assert_whole, charts, chromium, complaints, sections
from support.report_inputs import HOSTILE, WORDS, fake_candidate, fake_mistakes, fake_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")

SECTIONS = 13
PHONE, DESK = 390, 1280
# Light and dark, on a phone and on a desk, few labels and many.
VIEWS = [("light", DESK, 12), ("dark", DESK, 35), ("light", PHONE, 35), ("dark", PHONE, 12)]
REGIONS = """[...document.querySelectorAll("[role=region]")]
  .filter(region => !region.closest("details:not([open])")).map(region => region.getAttribute("aria-label"))"""
FOCUSED = """document.activeElement.getAttribute("aria-label") ?? document.activeElement.tagName"""
CONTRAST = """(() => {
  const luminance = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255);
    const [r, g, b] = parts.map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const text = document.querySelector("#noise-chart .xtick text");
  const [ink, page] = [getComputedStyle(text).fill, getComputedStyle(document.body).backgroundColor].map(luminance);
  return (Math.max(ink, page) + 0.05) / (Math.min(ink, page) + 0.05);
})()"""
PLAYED = """new Promise((done, fail) => {
  const audio = document.querySelector("audio");
  audio.addEventListener("ended", () => done(audio.currentTime));
  audio.addEventListener("error", () => fail(audio.error.message));
  audio.play().catch(fail);
})"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[int, Path]:
    """A report by its number of labels."""
    folder = tmp_path_factory.mktemp("pages")
    return {number: _write(folder / f"{number}.html", WORDS[:number]) for number in (12, 35)}


def _write(path: Path, labels: list[str]) -> Path:
    accuracies = {"stem_resnet": 0.95, "tc_resnet": 0.93, "seed_cnn": 0.81}
    candidates = [fake_candidate(name, labels, accuracy) for name, accuracy in accuracies.items()]
    path.write_text(fake_page(*candidates, mistakes=fake_mistakes(labels)), encoding="utf-8")
    return path


def show(tab: Tab, page: Path, scheme: str = "light", width: int = DESK) -> None:
    colours = [{"name": "prefers-color-scheme", "value": scheme}]
    tab.call("Emulation.setEmulatedMedia", features=colours)
    phone = width == PHONE
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=phone)
    tab.open(page)
    tab.until(DRAWN)


@pytest.mark.parametrize(("scheme", "width", "labels"), VIEWS)
def test_every_chart_is_drawn_with_nothing_asked_for_and_nothing_to_complain_of(tab, pages, scheme, width, labels):
    show(tab, pages[labels], scheme, width)
    assert_whole(tab)
    assert (len(sections(tab)), len(charts(tab))) == (SECTIONS, 10 + 12)
    assert tab.run('document.querySelectorAll("section").length') == SECTIONS


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("document.querySelector('#noise').style.display = 'none'", "hardly there.*'noise'"),
        ("document.querySelector('#slices').remove()", "hardly there.*'slices'"),
        ("document.querySelectorAll('#noise-chart .scatterlayer path').forEach(path => path.remove())", "noise-chart"),
        ("document.querySelector('#size-chart svg').setAttribute('height', 20)", "size-chart"),
        ("console.error('too hot')", "too hot"),
        ("void setTimeout(() => { throw new Error('too cold') })", "too cold"),
    ],
)
def test_a_page_that_is_harmed_is_not_whole(tab, pages, harm, says):
    show(tab, pages[12])
    tab.run(harm)
    tab.run("new Promise(done => setTimeout(done))")
    with pytest.raises(AssertionError, match=says):
        assert_whole(tab)


def test_a_page_that_asks_for_anything_else_is_not_whole(tab, pages, tmp_path):
    """Which the policy would have refused."""
    page, beside = tmp_path / "page.html", tmp_path / "beside.svg"
    beside.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")
    text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", pages[12].read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    show(tab, page)
    assert_whole(tab)
    page.write_text(text.replace("<main>", '<main><img src="beside.svg">'), encoding="utf-8")
    show(tab, page)
    with pytest.raises(AssertionError, match=re.escape("beside.svg")):
        assert_whole(tab)


@pytest.mark.parametrize(("scheme", "width", "labels"), VIEWS)
def test_the_page_is_never_wider_than_the_screen(tab, pages, scheme, width, labels):
    show(tab, pages[labels], scheme, width)
    tab.run('document.querySelectorAll("details").forEach(details => details.open = true)')
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("innerWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_text_of_charts_is_read_in_light_and_in_dark(tab, pages, scheme):
    show(tab, pages[12], scheme)
    assert tab.run(CONTRAST) > 7


def test_charts_change_with_the_scheme_while_the_page_is_open(tab, pages):
    show(tab, pages[12], "light")
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    tab.until(f"{CONTRAST} > 7 && matchMedia('(prefers-color-scheme: dark)').matches")


def test_a_mistake_is_heard_to_its_end(tab, pages):
    show(tab, pages[12])
    assert tab.run(PLAYED) == pytest.approx(1.0)
    tab.until('[...document.querySelectorAll("audio")].every(audio => audio.readyState == 4)')
    lengths = tab.run('[...document.querySelectorAll("audio")].map(audio => audio.duration)')
    assert lengths == pytest.approx([1.0] * 12)
    assert complaints(tab) == []


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_the_tab_key_reaches_every_region_in_the_order_of_the_page_and_every_clip(tab, pages, width):
    show(tab, pages[12], width=width)
    regions = tab.run(REGIONS)
    reached = []
    while len(reached) < 500 and (not reached or reached[-1] != "BODY"):
        tab.press("Tab")
        reached.append(tab.run(FOCUSED))
    assert [stop for stop in reached if stop in regions] == regions
    assert len(regions) > 12
    assert reached[0] == "A"
    assert reached.count("AUDIO") >= 12


def test_accuracies_that_are_all_alike_are_not_drawn_below_nothing_or_above_all(tab, tmp_path):
    candidate = fake_candidate("c", WORDS[:2], 1.0)
    scores = candidate.metrics["test"] | {"accuracy_ci95": [1.0, 1.0], "accuracy_in_noise": {0: 1.0}}
    page = tmp_path / "page.html"
    page.write_text(fake_page(replace(candidate, metrics=candidate.metrics | {"test": scores})), encoding="utf-8")
    show(tab, page)
    for chart in ("size-chart", "noise-chart"):
        low, high = tab.run(f'document.getElementById("{chart}")._fullLayout.yaxis.range')
        assert -0.05 < low < high < 1.05


def test_an_arrow_key_scrolls_what_is_wider_than_a_phone(tab, pages):
    show(tab, pages[35], width=PHONE)
    region = "document.querySelector(\"[aria-label='Confusion matrix, scrollable']\")"
    tab.run(f"{region}.focus()")
    tab.press("ArrowRight")
    tab.until(f"{region}.scrollLeft > 0")


def test_hostile_labels_are_shown_and_do_nothing(tab, tmp_path):
    page = _write(tmp_path / "hostile.html", HOSTILE)
    show(tab, page)
    assert_whole(tab)
    labels = tab.run('[...document.querySelectorAll("#slices th[scope=row]")].map(cell => cell.textContent)')
    assert set(HOSTILE) <= set(labels)


def test_what_the_page_does_not_hold_is_refused(tab, pages):
    """The policy in the page is what holds it to itself, so it must be in force."""
    show(tab, pages[12])
    tab.run("new Promise(done => { const image = new Image(); image.onerror = done; image.src = 'x.png'; })")
    assert any("Content Security Policy" in str(complaint) for complaint in complaints(tab))
