"""Archives: honest, hostile and damaged ones, all real files."""

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import EXCERPT
from support.data_set import DATA_SET, FILES, NFC, NFD

from earmark.dataset.layout import Clip, check_labels, interpret, parse_list
from earmark.dataset.sources import archive
from earmark.errors import UserError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip", ".TAR.GZ")


def tar_member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, target
    return member


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w" if path.suffix.lower() == ".tar" else "w:gz") as file:
        for member, content in members:
            file.addfile(member, io.BytesIO(content))
    return path


def write_archive(path: Path, files: list[tuple[str, bytes]]) -> Path:
    if path.suffix.lower() != ".zip":
        return write_tar(path, [(tar_member(name, len(content)), content) for name, content in files])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files:
            file.writestr(name, content)
    return path


def read_all(path: Path) -> dict[str, bytes]:
    return dict(archive.entries(path))


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        read_all(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)


class TestArchive:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("root", ["", "./", "speech_commands_v0.01/", "./deep/er/"])
    def test_the_data_set_is_found_below_any_root(self, tmp_path, suffix, root):
        members = [(root + name, content) for name, content in FILES.items()]
        assert read_all(write_archive(tmp_path / f"data{suffix}", members)) == DATA_SET

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_names_in_decomposed_unicode_become_composed(self, tmp_path, suffix):
        path = write_archive(tmp_path / f"data{suffix}", [(f"{NFD}/{NFD}.wav", b"x")])
        assert read_all(path) == {f"{NFC}/{NFC}.wav": b"x"}

    def test_folders_packed_in_either_tar_format_are_read(self, tmp_path):
        root = tmp_path / "root"
        for name, content in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        with tarfile.open(tmp_path / "data.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as file:
            file.add(root, arcname=".")
        with tarfile.open(tmp_path / "data.tar", "w", format=tarfile.PAX_FORMAT) as file:
            file.add(root, arcname="x" * 150)
        assert read_all(tmp_path / "data.tar.gz") == DATA_SET
        assert read_all(tmp_path / "data.tar") == DATA_SET

    def test_a_zip_of_the_finder_is_read_as_utf8(self, tmp_path):
        path = write_archive(tmp_path / "data.zip", [(f"{NFD}/a.wav", b"x")])
        packed = bytearray(path.read_bytes())
        for signature, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = packed.index(signature) + flags_at + 1
            assert packed[at] == 0x08
            packed[at] = 0
        path.write_bytes(packed)
        assert read_all(path) == {f"{NFC}/a.wav": b"x"}

    @pytest.mark.skipif(not EXCERPT.is_file(), reason=f"{EXCERPT.name} is not beside this checkout")
    def test_the_official_archive_is_read(self):
        files = dict(archive.entries(EXCERPT))
        clips = [entry for entry in map(interpret, files) if isinstance(entry, Clip)]
        assert len({clip.label for clip in clips}) == 30
        check_labels(clip.label for clip in clips)
        assert all(content.startswith(b"RIFF") for path, content in files.items() if path.endswith(".wav"))
        lists = [parse_list(files[name], name) for name in ("validation_list.txt", "testing_list.txt")]
        assert [len(ids) for ids in lists] == [6798, 6835]
        assert any(clip.id in lists[0] for clip in clips)

    def test_reading_is_lazy(self, tmp_path):
        reading = archive.entries(tmp_path / "not_there.tar.gz")
        with pytest.raises(UserError, match=r"not_there\.tar\.gz"):
            next(reading)

    def test_the_sha256_of_an_archive(self, tmp_path):
        path = write_archive(tmp_path / "data.tar.gz", list(FILES.items()))
        expected = hashlib.sha256(path.read_bytes()).hexdigest()
        assert archive.sha256_of(path) == expected

    @pytest.mark.parametrize("name", ["a.tar.gz", "a.TGZ", "a.tar", "a.zip"])
    def test_an_archive_is_known_by_its_name(self, name):
        assert archive.is_archive_name(name)
        assert not archive.is_archive_name(name + ".part")


class TestHostileArchive:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize(
        "name",
        ["/yes/a.wav", "../yes/a.wav", "yes/../../a.wav", "..", "yes\\..\\a.wav", "yes/a\n.wav", "yes/\x1b[2J.wav"],
    )
    def test_a_name_that_leads_out_or_controls_is_refused(self, tmp_path, suffix, name):
        place = tmp_path / "outer" / "inner"
        place.mkdir(parents=True)
        path = write_archive(place / f"data{suffix}", [("yes/b.wav", b"x"), (name, b"x")])
        refused(path, repr(name))
        assert set(tmp_path.rglob("*")) == {place.parent, place, path}

    def test_a_name_that_is_no_utf8_is_refused(self, tmp_path):
        path = tmp_path / "data.tar"
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as file:
            file.addfile(tar_member("grüß/a.wav"), io.BytesIO())
        refused(path, "printable UTF-8")

    @pytest.mark.parametrize(
        "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE]
    )
    def test_a_link_or_a_device_in_a_tar_is_refused(self, tmp_path, kind):
        member = tar_member("yes/a.wav", kind=kind, target="/etc/passwd")
        path = write_tar(tmp_path / "data.tar.gz", [(member, b"")])
        if kind == tarfile.CONTTYPE:  # a plain file by another name
            assert read_all(path) == {"yes/a.wav": b""}
        else:
            refused(path, "'yes/a.wav'", "a link, a device")

    def test_a_link_in_a_zip_is_refused(self, tmp_path):
        path = tmp_path / "data.zip"
        with zipfile.ZipFile(path, "w") as file:
            member = zipfile.ZipInfo("yes/a.wav")
            member.create_system = 3
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(member, "/etc/passwd")
        refused(path, "'yes/a.wav'", "a link")

    @pytest.mark.parametrize("claimed", [archive.MEMBER_LIMIT_BYTES + 1, 2**40])
    def test_a_tar_member_that_claims_too_much_is_refused_before_it_is_read(self, tmp_path, claimed):
        path = tmp_path / "data.tar.gz"
        path.write_bytes(gzip.compress(tar_member("yes/a.wav", claimed).tobuf(tarfile.GNU_FORMAT)))
        refused(path, "'yes/a.wav'", f"claims {claimed} bytes")

    def test_a_zip_member_that_claims_too_much_is_refused_before_it_is_read(self, tmp_path):
        path = tmp_path / "data.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("yes/a.wav", "w") as member:
            for _ in range(257):
                member.write(bytes(2**20))
        assert path.stat().st_size < 2**20
        refused(path, "'yes/a.wav'", f"claims {257 * 2**20} bytes")

    def test_a_huge_extended_header_is_refused(self, tmp_path):
        path = tmp_path / "data.tar.gz"
        header = tar_member("././@PaxHeader", 2**33, tarfile.XHDTYPE)
        path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT)))
        refused(path, "an extended header claims 8589934592 bytes")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_a_member_that_is_there_twice_is_refused(self, tmp_path, suffix):
        members = [("yes/a.wav", b"x"), ("no/a.wav", b"x"), ("./yes/a.wav", b"y")]
        refused(write_archive(tmp_path / f"data{suffix}", members), "'yes/a.wav' more than once")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_label_in_both_unicode_forms_is_refused(self, tmp_path, suffix):
        members = [(f"{NFD}/a.wav", b"x"), (f"{NFC}/b.wav", b"y")]
        refused(write_archive(tmp_path / f"data{suffix}", members), "differ only in Unicode form")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("other", ["two/yes/b.wav", "yes/b.wav", "one/more/yes/b.wav", "two/yes/a.wav"])
    def test_two_data_sets_in_one_archive_are_refused(self, tmp_path, suffix, other):
        path = write_archive(tmp_path / f"data{suffix}", [("one/yes/a.wav", b"x"), (other, b"x")])
        refused(path, repr(other), "the folder 'one'")


class TestDamagedArchive:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_an_archive_cut_off_anywhere_is_refused(self, tmp_path, suffix):
        whole = write_archive(tmp_path / f"whole{suffix}", list(DATA_SET.items())).read_bytes()
        # Behind the two zero blocks that end it, a tar is only filled up.
        end = len(whole.rstrip(b"\0")) if suffix == ".tar" else len(whole)
        for length in range(0, end, 97):
            path = tmp_path / f"data{suffix}"
            path.write_bytes(whole[:length])
            refused(path, "damaged or cut off")

    @pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
    def test_a_changed_byte_never_gives_other_content(self, tmp_path, suffix):
        whole = write_archive(tmp_path / f"whole{suffix}", list(DATA_SET.items())).read_bytes()
        path = tmp_path / f"data{suffix}"
        refusals = 0
        for position in range(0, len(whole), 3):
            changed = bytearray(whole)
            changed[position] ^= 0x55
            path.write_bytes(changed)
            try:
                contents = read_all(path).values()
            except UserError as error:
                refusals += 1
                assert str(path) in str(error)
            else:
                assert set(contents) <= set(DATA_SET.values())
        assert refusals > len(whole) / 3 / 2

    def test_a_damaged_header_within_a_tar_is_not_taken_for_its_end(self, tmp_path):
        path = write_archive(tmp_path / "data.tar", [("yes/a.wav", b"x"), ("yes/b.wav", b"y")])
        damaged = bytearray(path.read_bytes())
        damaged[1024] ^= 1
        path.write_bytes(damaged)
        refused(path, "damaged or cut off (bad checksum)")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("content", [b"", b"no archive at all", bytes(10_000)[:-1] + b"x"])
    def test_what_is_no_archive_is_refused(self, tmp_path, suffix, content):
        path = tmp_path / f"data{suffix}"
        path.write_bytes(content)
        if suffix == ".tar" and content.startswith(b"\0"):
            assert read_all(path) == {}  # zero blocks are an empty tar
        else:
            refused(path, "damaged or cut off")

    def test_a_zip_member_without_a_name_is_refused(self, tmp_path):
        path = write_archive(tmp_path / "data.zip", [("@yes/a.wav", b"x")])
        path.write_bytes(path.read_bytes().replace(b"@", b"\0"))
        refused(path, r"'\x00yes/a.wav'")

    def test_an_encrypted_zip_member_is_refused(self, tmp_path):
        path = write_archive(tmp_path / "data.zip", [("yes/a.wav", b"x")])
        packed = bytearray(path.read_bytes())
        packed[packed.index(b"PK\x03\x04") + 6] |= 1
        packed[packed.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(packed)
        refused(path, "encrypted")
