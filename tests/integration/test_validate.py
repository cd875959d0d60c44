"""Which clips are accepted, what stops the pipeline, and what is said about it."""

import io
import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT, change_params

from earmark import params
from earmark.dataset import shards
from earmark.errors import UserError
from earmark.stages.ingest import ingest
from earmark.stages.validate import validate

ACCEPTED = Path("data/accepted.parquet")
QUARANTINED = Path("data/quarantine/quarantined.csv")
LABELS = ("left", "no", "yes")
SPLITS = ["training"] * 8 + ["validation"] * 2 + ["test"] * 2


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with params.yaml as the working folder."""
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sound() -> pd.DataFrame:
    """72 rows of a manifest that breaks no rule: 3 labels, of each 2 clips of each of 12 speakers."""
    clips = [(label, speaker, n) for label in LABELS for speaker in range(12) for n in range(2)]
    count = len(clips)
    frame = {
        "id": [f"{label}/s{speaker}_nohash_{n}.wav" for label, speaker, n in clips],
        "label": [label for label, _, _ in clips],
        "speaker": [f"s{speaker}" for _, speaker, _ in clips],
        "split": [SPLITS[speaker] for _, speaker, _ in clips],
        "sha256": [f"{n:064x}" for n in range(count)],
        "source": "recordings",
        "ingested_on": "2026-01-31",
        "format": "WAV PCM_16",
        "sample_rate_hz": 16_000,
        "channels": 1,
        "frames": 16_000,
        "seconds": np.tile([0.8, 0.9, 1.0], count // 3),
        "peak": 0.5,
        "rms": np.tile(np.linspace(0.05, 0.3, 12), count // 12),
        "clipped_fraction": 0.0,
        "error": "",
        "retired": False,
    }
    return pd.DataFrame(frame)


def more(frame: pd.DataFrame, label: str, count: int, **columns: object) -> pd.DataFrame:
    """`frame` and `count` clips of `label` by new speakers, of average length and loudness."""
    speakers = [f"{label}{n}" for n in range(count)]
    others = frame.iloc[np.arange(count) * 7 % len(frame)].assign(
        id=[f"{label}/{speaker}_nohash_0.wav" for speaker in speakers],
        label=label,
        speaker=speakers,
        split="training",
        sha256=[f"{label}{n}" for n in range(count)],
    )
    return pd.concat([frame, others.assign(**columns)], ignore_index=True)


def changed(frame: pd.DataFrame, rows: object, **columns: object) -> pd.DataFrame:
    """`frame` with other values in `rows`, positions."""
    result = frame.copy()
    for name, value in columns.items():
        result.loc[result.index[rows], name] = value
    return result


def content(clip: str) -> bytes:
    return f"the bytes of {clip}".encode()


def store(frame: pd.DataFrame) -> pd.DataFrame:
    """Writes `frame` and made-up bytes as data/raw; returns what it wrote."""
    folder = Path("data/raw")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with shards.ShardWriter(folder) as writer:
        places = [writer.add(row.id, content(row.id), row.sha256) for row in frame.itertuples()]
    shard, offset, length = zip(*places, strict=True)
    names = [writer.names[number] for number in shard]
    written = frame.assign(shard=names, offset=offset, length=length)[list(shards.COLUMNS)]
    shards.write_manifest(folder, written)
    return written


def run_validate(frame: pd.DataFrame | None = None, **changes: dict) -> str:
    if frame is not None:
        store(frame)
    change_params(Path(), changes)
    return validate(params.load())


def result() -> dict:
    return json.loads(Path("reports/validation/result.json").read_text(encoding="utf-8"))


def broken_rules() -> set[str]:
    return {entry["rule"] for entry in result()["rules"] if entry["suite"] == "data set" and not entry["success"]}


def accepted() -> pd.DataFrame:
    return pd.read_parquet(ACCEPTED)


def quarantined() -> pd.DataFrame:
    return pd.read_csv(QUARANTINED, keep_default_na=False).set_index("id")


def test_a_sound_data_set_is_accepted_whole(project):
    output = run_validate(sound())
    assert output.splitlines()[0] == "72 clips accepted, 0 quarantined"
    written = store(sound())
    pd.testing.assert_frame_equal(
        accepted()[written.columns.drop(["ingested_on", "retired"])],
        written.drop(columns=["ingested_on", "retired"]),
        check_dtype=False,
    )
    content = result()
    assert (content["passed"], content["clips"], content["accepted"], content["quarantined"]) == (True, 72, 72, 0)
    assert all(entry["success"] for entry in content["rules"])
    assert not content["compared_with_last_accepted"]


STOPS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "at most 0.05 of the clips in quarantine": (lambda f: changed(f, slice(0, 4), peak=0.0), "4 of 72 clips"),
    "at least 5 clips of each label": (lambda f: more(f, "rare", 4), "rare"),
    "training clips of each label": (lambda f: more(f, "rare", 6, split="validation"), "rare"),
    "clips in each split of split.method speaker": (
        lambda f: f.assign(split=f["split"].replace("test", "training")),
        "test",
    ),
    "each speaker in one split": (lambda f: changed(f, [0], split="test"), "s0"),
    "each recording in one split": (
        lambda f: changed(f, [23], sha256=f.at[0, "sha256"]),
        "left/s0_nohash_0.wav = left/s11_nohash_1.wav",
    ),
    "each recording under one label": (
        lambda f: changed(f, [24], sha256=f.at[0, "sha256"]),
        "left/s0_nohash_0.wav = no/s0_nohash_0.wav",
    ),
}
CHANGES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str]] = {
    "label gone": (lambda f: f[f["label"] != "rare"], "no label gone since the last accepted version", "1: rare"),
    "length": (lambda f: f.assign(seconds=f["seconds"] + 0.5), "drift", "length: median 0.9 to 1.4 s"),
    "loudness": (lambda f: f.assign(rms=f["rms"] / 10), "drift", "loudness: median -15.2 to -35.2 dBFS"),
    "label mix": (lambda f: more(f, "yes", 30), "drift", "label mix: yes from 30.8 % to 50.0 % of the clips"),
}


@pytest.mark.parametrize("rule", STOPS)
def test_a_data_set_that_is_not_sound_is_refused_for_one_reason_alone(project, rule):
    run_validate(sound())
    before = {path: path.read_bytes() for path in (ACCEPTED, QUARANTINED)}
    Path("data/accepted.parquet").rename("kept")
    break_it, named = STOPS[rule]
    with pytest.raises(UserError) as refused:
        run_validate(break_it(sound()))
    assert broken_rules() == {rule}
    assert result()["passed"] is False
    output = str(refused.value)
    assert rule.split(" of ")[0] in output
    assert "reports/validation/index.html" in output
    assert named in " ".join(output.split())
    assert ("set split.method to random" in output) == ("split.method" in rule)
    Path("kept").rename("data/accepted.parquet")
    assert {path: path.read_bytes() for path in before} == before


def test_a_refusal_for_too_much_in_quarantine_says_what_put_it_there(project):
    with pytest.raises(UserError, match=r"not silent: peak at least 0\.001 +quarantined +0\n +9: "):
        run_validate(changed(sound(), slice(0, 9), peak=0.0))


@pytest.mark.parametrize("change", CHANGES)
def test_a_data_set_far_from_the_last_accepted_one_is_refused_until_that_is_removed(project, change):
    alter, rule, named = CHANGES[change]
    first = more(sound(), "rare", 6)
    run_validate(first)
    accepted_bytes = ACCEPTED.read_bytes()
    with pytest.raises(UserError) as refused:
        run_validate(alter(first))
    (broken,) = broken_rules()
    assert broken.startswith(rule)
    assert named in " ".join(str(refused.value).split())
    assert "To accept this change, remove data/accepted.parquet and run again" in str(refused.value)
    assert ACCEPTED.read_bytes() == accepted_bytes
    ACCEPTED.unlink()
    run_validate()
    assert len(accepted()) == len(alter(first))


def test_a_label_that_is_learnt_as_unknown_from_now_on_is_not_gone(project):
    run_validate(sound())
    run_validate(dataset={"unknown_labels": ["left"]})
    assert result()["compared_with_last_accepted"]
    assert set(accepted()["label"]) == {"_unknown_", "no", "yes"}
    assert set(accepted()["recorded_label"]) == set(LABELS)
    run_validate()  # and the other way round, from what is learnt as unknown
    assert result()["compared_with_last_accepted"]


def test_unknown_labels_are_accepted_beside_the_labels_that_are_asked_for(project):
    run_validate(more(sound(), "up", 6), dataset={"labels": ["no", "yes"], "unknown_labels": ["up"]})
    assert accepted()["label"].value_counts().to_dict() == {"no": 24, "yes": 24, "_unknown_": 6}


def test_clips_accepted_before_there_were_unknown_labels_are_compared_with(project):
    run_validate(sound())
    accepted().drop(columns="recorded_label").to_parquet(ACCEPTED, index=False)
    run_validate()
    assert result()["compared_with_last_accepted"]


def test_a_few_new_clips_are_no_drift(project):
    run_validate(sound())
    run_validate(more(sound(), "yes", 3))
    assert result()["compared_with_last_accepted"]
    assert 0 < result()["drift"]["label mix"] < 0.1
    assert len(accepted()) == 75


def test_another_source_is_another_data_set(project):
    run_validate(sound())
    others = more(sound(), "yes", 60).assign(source="elsewhere", sha256=lambda frame: "f" + frame["sha256"].str[1:])
    run_validate(others)
    assert not result()["compared_with_last_accepted"]


def test_the_same_recordings_from_a_source_of_another_name_are_the_same_data_set(project):
    run_validate(sound())
    run_validate(sound().assign(source="sound-2.zip"))
    assert result()["compared_with_last_accepted"]


def test_choosing_other_labels_to_learn_is_no_change_of_the_data(project):
    run_validate(sound())
    run_validate(dataset={"labels": ["no", "yes"]})
    assert set(accepted()["label"]) == {"no", "yes"}
    assert "24 of labels that are not chosen" in result()["sentence"]
    run_validate(dataset={"labels": []})
    assert set(accepted()["label"]) == set(LABELS)
    assert result()["compared_with_last_accepted"]


def test_recordings_ingested_anew_on_another_day_are_the_same_accepted_clips(project):
    run_validate(sound())
    before = ACCEPTED.read_bytes()
    run_validate(sound().assign(ingested_on="2027-02-01"))
    assert ACCEPTED.read_bytes() == before


def test_labels_that_may_not_occur_go_to_quarantine_and_are_not_missed(project):
    run_validate(more(sound(), "stranger", 3), validate={"labels": list(LABELS)})
    assert set(accepted()["label"]) == set(LABELS)
    rows = quarantined()
    assert rows["reason"].tolist() == ["label not allowed"] * 3
    assert rows["error"].tolist() == ["stranger"] * 3


def test_labels_to_learn_must_be_allowed(project):
    change_params(Path(), {"dataset": {"labels": ["yes", "up"]}, "validate": {"labels": ["yes", "no"]}})
    with pytest.raises(UserError) as refused:
        params.load()
    assert "dataset.labels names 'up', which is not in validate.labels; expected one of yes, no" in str(refused.value)


def test_a_speaker_may_be_in_two_splits_where_clips_are_drawn_at_random(project):
    run_validate(changed(sound(), [0], split="test"), split={"method": "random"})
    assert result()["passed"]


def test_the_table_is_narrow_whatever_names_are_long(project):
    frame = changed(sound(), slice(0, 2), peak=0.0)
    long = "left/" + "w" * 150 + "_nohash_0.wav"
    output = run_validate(changed(frame, [0], id=long))
    table = output.splitlines()[1:]
    assert max(map(len, table)) <= 100
    assert table[0].split() == ["rule", "outcome", "observed"]
    assert any(line.startswith("not silent") and "quarantine" in line for line in table)


def test_a_long_quarantine_is_counted_whole_and_listed_in_part(project):
    frame = more(sound(), "yes", 300, peak=0.0)
    run_validate(frame, validate={"max_quarantined_fraction": 1.0})
    content = result()
    assert (content["quarantined"], len(content["quarantine"])) == (300, 200)
    assert set(content["quarantine"][0]) == {"id", "reason", "error"}
    assert len(quarantined()) == 300
    silent = next(entry for entry in content["rules"] if entry["rule"].startswith("not silent"))
    assert (silent["failed"], len(silent["failed_ids"])) == (300, 5)


class Page(HTMLParser):
    """What a browser would run, load and show of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_data_docs_are_one_page_that_loads_nothing_and_runs_nothing_of_a_hostile_name(project):
    hostile = "left/<script>alert(1)</script>_nohash_0.wav"
    frame = changed(changed(sound(), [0], id=hostile), [0, 1], error="<img src=x onerror=alert(2)>")
    run_validate(frame)
    files = {path.name for path in Path("reports/validation").iterdir()}
    assert files == {"index.html", "result.json"}
    page = Page(Path("reports/validation/index.html").read_text(encoding="utf-8"))
    assert not page.tags & {"script", "img", "link", "iframe", "object"}
    assert not page.addresses
    assert page.text.count(hostile) >= 3
    assert "<img src=x" in page.text
    for entry in result()["rules"]:
        assert page.text.count(entry["rule"]) >= 2


def wav(samples: np.ndarray, sample_rate_hz: int = 16_000, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, format="WAV", subtype=subtype)
    return buffer.getvalue()


def noise(seed: int, count: int = 8000) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, count)


POOR = {
    "yes/broken_nohash_0.wav": (b"no audio at all", "not decodable", ""),
    "yes/nan_nohash_0.wav": (
        wav(np.where(np.arange(8000) == 5, np.nan, noise(1)), subtype="FLOAT"),
        "NaN or infinite samples",
        "NaN or infinite samples",
    ),
    "yes/short_nohash_0.wav": (wav(noise(2, 800)), "not 0.1 to 60 seconds long", "seconds 0.05"),
    "yes/rate_nohash_0.wav": (
        wav(noise(3, 4000), 4000),
        "sample rate not 8000 to 192000 Hz",
        "sample_rate_hz 4000",
    ),
    "yes/silent_nohash_0.wav": (wav(np.zeros(8000)), "silent", "peak 0"),
    "yes/clipped_nohash_0.wav": (wav(np.sign(noise(4))), "clipped", "clipped_fraction 1"),
    "stranger/x_nohash_0.wav": (wav(noise(5)), "label not allowed", "stranger"),
}


def fill(folder: Path, recordings: dict[str, bytes]) -> None:
    for name, recording in recordings.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(recording)


def test_each_kind_of_poor_recording_is_kept_in_quarantine_with_its_reason(project):
    good = {
        f"{label}/s{n}_nohash_0.wav": wav(noise(n + len(label) * 100)) for label in ("yes", "no") for n in range(30)
    }
    fill(Path("recordings"), good | {path: recording for path, (recording, _, _) in POOR.items()})
    limits = {"labels": ["no", "yes"], "max_quarantined_fraction": 0.2}
    change_params(Path(), {"dataset": {"source": "recordings"}, "validate": limits})
    ingest(params.load())
    Path("data/raw/refused.csv").write_text("path,reason,source\n../x.wav,the key leaves its folder,bucket\n")
    output = run_validate()
    assert output.startswith("60 clips accepted, 7 quarantined, 1 files refused\n")
    assert set(accepted()["id"]) == set(good)
    rows = quarantined()
    assert set(rows.index) == {*POOR, "../x.wav"}
    assert rows.at["../x.wav", "reason"] == "refused: the key leaves its folder"
    for clip, (recording, reason, detail) in POOR.items():
        assert rows.at[clip, "reason"] == reason
        assert detail in rows.at[clip, "error"]
        assert rows.at[clip, "error"]
        assert Path("data/quarantine", f"{rows.at[clip, 'sha256']}.wav").read_bytes() == recording
    assert {entry["id"]: entry["reason"] for entry in result()["quarantine"]} == rows["reason"].to_dict()
    assert result()["refused_files"] == 1
