"""Sources: folders, what ``dataset.source`` opens, and the checksums that it remembers."""

import hashlib
import http.server
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support.data_set import DATA_SET, FILES, NFC, NFD

from earmark.dataset.sources import archive, folder, open_source, speech_commands
from earmark.dataset.sources.checksum_cache import cached_sha256
from earmark.dataset.sources.source import Context
from earmark.dataset.sources.source_file import SourceFile
from earmark.errors import UserError


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


def write_archive(path: Path, form: str, files: dict[str, bytes]) -> Path:
    """Pack with the standard library's packer; ``form`` is "zip", "tar" or "gztar"."""
    root = write_folder(path.with_name(path.name + " unpacked"), files)
    packed = Path(shutil.make_archive(str(path.with_name("packed")), form, root))
    shutil.rmtree(root)
    return packed.rename(path)


def read(entries: Iterable[SourceFile]) -> list[tuple[str, bytes]]:
    return [(entry.path, entry.content) for entry in entries]


class TestFolder:
    def test_the_data_set_is_read_in_order_and_nothing_else(self, tmp_path):
        write_folder(tmp_path, FILES | {"yes/deeper/a.wav": b"", "top.wav": b""})
        (tmp_path / "yes" / "folder.wav").mkdir()
        assert read(folder.entries(tmp_path, {})) == sorted(DATA_SET.items())

    def test_names_in_decomposed_unicode_become_composed(self, tmp_path):
        write_folder(tmp_path, {f"{NFD}/{NFD}.wav": b"x"})
        assert read(folder.entries(tmp_path, {})) == [(f"{NFC}/{NFC}.wav", b"x")]

    def test_a_label_in_both_unicode_forms_is_refused(self, tmp_path):
        write_folder(tmp_path, {f"{NFD}/a.wav": b"x", f"{NFC}/b.wav": b"y"})
        if len(list(tmp_path.iterdir())) < 2:
            pytest.skip("this file system holds both forms for one name")
        with pytest.raises(UserError, match="differ only in Unicode form"):
            read(folder.entries(tmp_path, {}))

    def test_a_control_character_in_a_name_is_refused(self, tmp_path):
        write_folder(tmp_path, {"yes/a\nb.wav": b"x"})
        with pytest.raises(UserError, match=r"yes/a\\nb\.wav"):
            read(folder.entries(tmp_path, {}))

    def test_an_unreadable_file_is_named(self, tmp_path):
        write_folder(tmp_path, DATA_SET)
        reading = folder.entries(tmp_path, {})
        next(reading)
        (tmp_path / "yes" / "a_nohash_0.wav").unlink()
        with pytest.raises(UserError, match=r"a_nohash_0\.wav cannot be read"):
            list(reading)

    def test_labels_may_be_links_to_folders_elsewhere(self, tmp_path):
        write_folder(tmp_path / "elsewhere", {"a.wav": b"x"})
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "yes").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        assert read(folder.entries(tmp_path / "root", {})) == [("yes/a.wav", b"x")]


class TestFolderMemory:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return write_folder(tmp_path / "root", FILES)

    def test_a_remembered_file_is_not_read_again(self, root):
        memory = remember(root)
        for name in DATA_SET:
            (root / name).chmod(0)  # reading would fail, for those who are not root
        assert {entry.path: entry.content for entry in folder.entries(root, memory)} == dict.fromkeys(DATA_SET)
        assert {entry.sha256 for entry in folder.entries(root, memory)} == {"known"}

    @pytest.mark.parametrize(
        "change",
        [
            lambda file: file.write_bytes(b"longer" * 1000),
            lambda file: os.utime(file, ns=(0, 1)),
            lambda file: (file.rename(file.with_name("old")), shutil.copy2(file.with_name("old"), file)),
        ],
        ids=["resized", "written", "another file"],
    )
    def test_a_changed_file_is_read_again(self, root, change: Callable[[Path], object]):
        memory = remember(root)
        change(root / "yes" / "a_nohash_0.wav")
        assert [entry.path for entry in folder.entries(root, memory) if entry.content] == ["yes/a_nohash_0.wav"]


def remember(root: Path) -> dict[str, tuple[str, str]]:
    return {entry.path: (entry.version, "known") for entry in folder.entries(root, {})}


class TestChecksumMemory:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "data.tar"
        path.write_bytes(b"first")
        return path

    def test_it_is_asked_instead_of_the_file(self, file, tmp_path):
        memory = tmp_path / "downloads" / "checksums.json"
        first = cached_sha256(file, memory)
        assert first == hashlib.sha256(b"first").hexdigest()
        status = file.stat()
        file.write_bytes(b"other")  # as long as before, and the old time below: only reading could tell
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert cached_sha256(file, memory) == first

    def test_a_changed_file_is_read_again(self, file, tmp_path):
        memory = tmp_path / "checksums.json"
        cached_sha256(file, memory)
        file.write_bytes(b"longer than first")
        assert cached_sha256(file, memory) == hashlib.sha256(b"longer than first").hexdigest()

    def test_it_knows_several_files(self, file, tmp_path):
        memory, other = tmp_path / "checksums.json", tmp_path / "other.tar"
        other.write_bytes(b"other")
        cached_sha256(file, memory)
        cached_sha256(other, memory)
        assert set(json.loads(memory.read_text())) == {str(file.resolve()), str(other.resolve())}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["checksums.json", "data.tar", "other.tar"]

    @pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff", b'{"PATH": 1}', b'{"PATH": {"version": []}}'])
    def test_a_damaged_one_counts_as_empty(self, file, tmp_path, damaged):
        memory = tmp_path / "checksums.json"
        memory.write_bytes(damaged.replace(b"PATH", str(file.resolve()).encode()))
        assert cached_sha256(file, memory) == hashlib.sha256(b"first").hexdigest()
        assert json.loads(memory.read_text())[str(file.resolve())]["sha256"] == hashlib.sha256(b"first").hexdigest()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the URL at which a server on this machine shows it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = tmp_path / "served"
    root.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield root, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class TestOpenSource:
    @pytest.fixture
    def context(self, tmp_path: Path) -> Context:
        return Context(0, 1, tmp_path / "downloads")

    def test_a_folder(self, tmp_path, context):
        root = write_folder(tmp_path / "recordings", FILES)
        source = open_source(str(root), context)
        assert source.name == "recordings"
        assert source.fingerprint == ""
        assert dict(read(source.entries({}))) == DATA_SET
        assert dict(read(source.entries({}))) == DATA_SET

    @pytest.mark.parametrize(
        ("suffix", "form"), [(".tar", "tar"), (".tar.gz", "gztar"), (".TGZ", "gztar"), (".zip", "zip")]
    )
    def test_an_archive(self, tmp_path, suffix, form, context):
        path = write_archive(tmp_path / f"recordings{suffix}", form, FILES)
        source = open_source(str(path), context)
        assert source.name == path.name
        assert source.fingerprint == archive.sha256_of(path)
        assert dict(read(source.entries({}))) == DATA_SET

    @pytest.mark.parametrize("name", sorted(speech_commands.ARCHIVES))
    def test_an_official_archive_is_known_without_network_and_disk(self, tmp_path, name, context):
        source = open_source(name, context)
        assert source.name == name
        assert source.fingerprint == speech_commands.ARCHIVES[name].sha256
        assert len(bytes.fromhex(source.fingerprint)) == 32
        source.entries({})
        assert not (tmp_path / "downloads").exists()

    def test_a_url(self, served, context):
        root, address = served
        path = write_archive(root / "my recordings.tar.gz", "gztar", FILES)
        url = f"{address}/my%20recordings.tar.gz?token=secret"
        source = open_source(url, context)
        assert source.name == "my recordings.tar.gz"
        assert source.fingerprint == archive.sha256_of(path)
        path.unlink()
        again = open_source(url, context)
        assert again.fingerprint == source.fingerprint
        assert dict(read(again.entries({}))) == DATA_SET

    def test_two_urls_of_one_name_do_not_meet(self, served, context):
        root, address = served
        for place in ("a", "b"):
            (root / place).mkdir()
            write_archive(root / place / "data.zip", "zip", {f"{place}/1.wav": place.encode()})
        sources = [open_source(f"{address}/{place}/data.zip", context) for place in ("a", "b")]
        assert [dict(read(source.entries({}))) for source in sources] == [{"a/1.wav": b"a"}, {"b/1.wav": b"b"}]

    def test_a_url_never_writes_outside_of_the_downloads(self, tmp_path, served, context):
        root, address = served
        write_archive(root / "..%2F..%2Fevil.zip", "zip", {"a/1.wav": b"x"})
        before = set(tmp_path.iterdir())
        open_source(f"{address}/..%252F..%252Fevil.zip", context)
        assert set(tmp_path.iterdir()) - before == {tmp_path / "downloads"}

    def test_the_synthetic_data_set(self, tmp_path):
        synthetic = pytest.importorskip("earmark.dataset.sources.synthetic")
        source = open_source("synthetic", Context(7, 2, tmp_path / "downloads"))
        assert source.name == "synthetic"
        assert source.fingerprint == synthetic.fingerprint(7, 2)
        assert read([next(source.entries({}))]) == [next(synthetic.entries(7, 2))]

    @pytest.mark.parametrize(
        "source",
        [
            "",
            "not/there",
            "not_there.zip",
            "speech_commands_v0.03",
            "ftp://host/a.zip",
            "s3://bucket/a.zip",
            "http://127.0.0.1:9/a.rar",
            "http://127.0.0.1:9/",
            "https://127.0.0.1:9/a.zip/",
        ],
    )
    def test_anything_else_is_refused_with_what_is_allowed(self, source, context):
        with pytest.raises(UserError) as caught:
            open_source(source, context)
        for part in (f"dataset.source is '{source}'", "synthetic", "speech_commands_v0.02", "folder", ".tar.gz"):
            assert part in str(caught.value)

    def test_a_file_that_is_no_archive_is_refused(self, tmp_path, context):
        (tmp_path / "a.rar").write_bytes(b"x")
        with pytest.raises(UserError, match=r"a\.rar', which is not an archive by its name"):
            open_source(str(tmp_path / "a.rar"), context)
