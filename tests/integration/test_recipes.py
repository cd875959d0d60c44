"""The recipes of CONTRIBUTING.md and docs/training.md, followed in a copy of the package with what stands there."""

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT, change_params
from support import markdown
from support.growing import RECORDINGS, fill

from earmark.params import yaml

PAGE = ROOT / "CONTRIBUTING.md"


def blocks_under(heading: str) -> list[markdown.Block]:
    """The blocks of one recipe."""
    _, recipe = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")
    return [block for block in markdown.blocks(PAGE) if block.body in recipe.split("\n## ")[0]]


FRONT_END = blocks_under("Add a front end")
BLOCKS = [block for block in markdown.blocks(PAGE) if block not in FRONT_END]
CANDIDATE, ARCHIVE, SOURCE, KIND, RULE = (block.body for block in BLOCKS if block.language == "python")
(SETTINGS,) = (block.body for block in BLOCKS if block.language == "yaml")
OTHERS = [block.body for block in markdown.blocks(ROOT / "docs/training.md") if block.language == "yaml"]
BUILD = """
import sys

from earmark import params
from earmark.features.front_ends import front_end
from earmark.models.candidates import front_end_of, module_of

loaded, name = params.load(), sys.argv[1]
settings = front_end(front_end_of(name), loaded)
network = module_of(name).build((settings.frames, settings.bins), 3, **loaded.train.candidate(name).network)
print(network.name, network.output_shape, *loaded.train.candidates)
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with params.yaml, and the package as `src/earmark`, to be changed."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    return tmp_path


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs this Python in the checkout, with the checkout's package."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=120)


def earmark(checkout: Path, stage: str) -> subprocess.CompletedProcess:
    return run(checkout, "-c", "from earmark.cli import main; main()", stage)


def insert(file: Path, after: str, entry: str) -> None:
    """Adds an entry on lines of its own behind the only place in the file that reads `after`."""
    text = file.read_text(encoding="utf-8")
    assert text.count(after) == 1, f"{file.name} has {text.count(after)} places that read {after!r}"
    file.write_text(text.replace(after, f"{after}\n        {entry},"), encoding="utf-8")


def paste_candidate(checkout: Path, example: str) -> str:
    """Puts the settings in `example` below `train.candidates` in params.yaml; returns the name of their candidate."""
    path, head = checkout / "params.yaml", "train:\n  candidates:\n"
    text = path.read_text(encoding="utf-8")
    (line,) = re.findall(r"^  candidates:.*\n", text, re.MULTILINE)
    assert example.startswith(head)
    path.write_text(text.replace(line, f"{line}{example.removeprefix(head)}\n"), encoding="utf-8")
    (name,) = yaml.load(example)["train"]["candidates"]
    return name


@pytest.fixture
def web(tmp_path) -> Iterator[str]:
    """The address of a server of the folder `web`."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_candidate_is_a_file_and_an_entry(checkout):
    (checkout / "src/earmark/models/candidates/gru.py").write_text(CANDIDATE, encoding="utf-8")
    done = run(checkout, "-c", BUILD, paste_candidate(checkout, SETTINGS))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "gru (None, 3) gru stem_resnet tc_resnet"


@pytest.mark.parametrize("example", OTHERS)
def test_another_candidate_is_settings_to_paste(checkout, example):
    name = paste_candidate(checkout, example)
    done = run(checkout, "-c", BUILD, name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name} (None, 3) ")
    assert set(done.stdout.split()) > {name, "stem_resnet", "tc_resnet"}


def test_a_published_archive_is_an_entry(checkout, web):
    fill(checkout / "recordings", RECORDINGS)
    with tarfile.open(checkout / "web/my_words_v1.tar.gz", "w:gz") as archive:
        archive.add(checkout / "recordings", ".")
    sha256 = hashlib.sha256((checkout / "web/my_words_v1.tar.gz").read_bytes()).hexdigest()
    entry = re.sub(r'url="https://[^/"]+', f'url="{web}', ARCHIVE).replace("…", sha256)
    insert(checkout / "src/earmark/dataset/sources/speech_commands.py", "for official in (", entry)
    change_params(checkout, {"dataset": {"source": "my_words_v1"}})
    done = earmark(checkout, "ingest")
    assert done.returncode == 0, done.stderr
    assert f"{len(RECORDINGS)} new clips from my_words_v1" in done.stdout


def test_another_kind_of_source_is_a_file_and_an_entry(checkout):
    folder = checkout / "src/earmark/dataset/sources"
    (folder / "beeps.py").write_text(SOURCE, encoding="utf-8")
    text = (folder / "__init__.py").read_text(encoding="utf-8")
    assert "import archive_file, " in text
    (folder / "__init__.py").write_text(text.replace("import archive_file, ", "import archive_file, beeps, "), "utf-8")
    insert(folder / "__init__.py", "KINDS = (", KIND)
    change_params(checkout, {"dataset": {"source": "beeps", "speakers": 6}})
    first, second = earmark(checkout, "ingest"), earmark(checkout, "ingest")
    assert "12 new clips from beeps: 12 clips of 2 labels" in first.stdout, first.stderr
    assert "nothing new in beeps" in second.stdout, second.stderr
    change_params(checkout, {"dataset": {"source": "beep"}})
    assert "'beep', which does not exist; expected beeps, synthetic, " in earmark(checkout, "ingest").stderr


def test_an_expectation_is_an_entry(checkout):
    fill(checkout / "recordings", RECORDINGS)
    loud = np.where(np.arange(16_000) // 40 % 2, 0.9, -0.9)
    soundfile.write(checkout / "recordings/yes/dora_nohash_0.wav", loud, 16_000, subtype="PCM_16")
    rules = checkout / "src/earmark/stages/validate.py"
    insert(rules, 'allowed=("", NOT_FINITE), broken="not decodable"),', RULE)
    change_params(checkout, {"dataset": {"source": "recordings"}})
    assert earmark(checkout, "ingest").returncode == 0
    refused = earmark(checkout, "validate")  # the data set is too small, but all rules are checked
    assert refused.returncode == 2, refused.stderr[-2000:]
    result = json.loads((checkout / "reports/validation/result.json").read_text(encoding="utf-8"))
    (rule,) = [rule for rule in result["rules"] if rule["rule"].startswith("not too loud")]
    assert rule["failed_ids"] == ["yes/dora_nohash_0.wav"]


COMPARE = """
from pathlib import Path

import numpy as np

from earmark import params
from earmark.dataset import shards
from earmark.features import numpy_backend
from earmark.features.front_ends import front_end
from earmark.features.keras_backend import from_waveforms
from earmark.features.reader import FeatureReader
from earmark.models.inference import waveforms

settings = front_end("octave", params.load())
clips = shards.read_manifest(Path("data/raw"))
stored = FeatureReader(Path("data/features/octave"), clips).epoch().rows(0, len(clips))
(decoded,) = waveforms(settings, shards.read_recordings(Path("data/raw"), clips))
(in_numpy,) = numpy_backend.features(decoded, (settings,))
np.testing.assert_allclose(from_waveforms(decoded, settings), in_numpy, atol=1e-5)
np.testing.assert_array_equal(stored, numpy_backend.to_float16(in_numpy))
print(stored.shape, in_numpy.min() >= 0, 0.1 < in_numpy.max() <= 1)
"""


def test_a_front_end_is_a_file_and_an_entry(checkout):
    module, entry = (block.body for block in FRONT_END)
    front_ends = checkout / "src/earmark/features/front_ends"
    (front_ends / "octave.py").write_text(module, encoding="utf-8")
    table, substitutions = re.subn(
        r"^FRONT_ENDS: .*$", entry, (front_ends / "__init__.py").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert substitutions == 1
    (front_ends / "__init__.py").write_text(table, encoding="utf-8")
    candidate = CANDIDATE.replace('FRONT_END = "mfcc"', 'FRONT_END = "octave"')
    (checkout / "src/earmark/models/candidates/gru.py").write_text(candidate, encoding="utf-8")
    candidates = yaml.load(SETTINGS)["train"]["candidates"]
    change_params(checkout, {"dataset": {"source": "recordings"}, "train": {"candidates": candidates}})
    fill(checkout / "recordings", RECORDINGS)
    for stage in ("ingest", "extract"):
        done = earmark(checkout, stage)
        assert done.returncode == 0, done.stderr
    done = run(checkout, "-c", COMPARE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"({len(RECORDINGS)}, 98, 18) True True"
