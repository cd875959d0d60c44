"""An inbox in a bucket: a real HTTP server, real kills, and a proxy that spoils requests."""

import hashlib
import itertools
import random
import socketserver
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from support.s3_server import proxying, serving, use

from earmark.dataset.sources import s3
from earmark.dataset.sources.source_file import SourceFile
from earmark.errors import UserError

WORKERS = 16
_names = (f"bucket-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def port():
    with serving() as port:
        yield port


@pytest.fixture
def proxy(port, monkeypatch, tmp_path):
    with proxying(port) as proxy:
        use(proxy.url, monkeypatch, tmp_path)
        yield proxy


class Inbox:
    """A bucket with what was put into it past the proxy, and a staging folder."""

    def __init__(self, name: str, port: int, staging: Path):
        self.name, self.staging = name, staging
        # Without checksums beside the objects, as many servers are.
        config = Config(request_checksum_calculation="when_required")
        self.client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", config=config)
        self.client.create_bucket(Bucket=name)

    def put(self, contents: dict[str, bytes], prefix: str = "in/") -> None:
        for key, content in contents.items():
            self.client.put_object(Bucket=self.name, Key=prefix + key, Body=content)

    def entries(self, memory=None, address: str = "", **options) -> list[SourceFile]:
        return list(s3.entries(address or f"s3://{self.name}/in", self.staging, memory or {}, **options))

    def contents(self, memory=None, **options) -> dict[str, bytes | None]:
        """Path -> content, after a check that no path came twice and that they are in order."""
        files = self.entries(memory, **options)
        assert [file.path for file in files] == sorted({file.path for file in files})
        return {file.path: file.content for file in files}


@pytest.fixture
def inbox(proxy, port, tmp_path):
    return Inbox(next(_names), port, tmp_path / "staging")


def recordings(count: int, label: str = "yes") -> dict[str, bytes]:
    return {f"{label}/{number:05}.wav": b"%d of %s" % (number, label.encode()) * 50 for number in range(count)}


def version_of(content: bytes) -> str:
    return f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}:{len(content)}"


def memory_of(contents: dict[str, bytes]) -> dict[str, tuple[str, str]]:
    return {path: (version_of(content), hashlib.sha256(content).hexdigest()) for path, content in contents.items()}


def test_everything_is_fetched_once_and_then_remembered(inbox, proxy, capsys):
    contents = recordings(20) | {"_background_noise_/hum.wav": b"hum", "validation_list.txt": b"yes/00001.wav\n"}
    inbox.put(contents | {"README.md": b"no recording", "yes/": b"", "a/b/c.wav": b"deep", "yes/.a.wav": b"hidden"})
    inbox.put({"yes/b.wav": b"beside the prefix"}, prefix="inbox2/")
    first = inbox.entries()
    assert {file.path: file.content for file in first} == contents
    assert {file.path: file.version for file in first} == {key: version_of(contents[key]) for key in contents}
    proxy.gets.clear()
    memory = memory_of(contents)
    assert inbox.entries(memory) == [
        SourceFile(path, memory[path][0], sha256=memory[path][1]) for path in sorted(contents)
    ]
    assert proxy.gets == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("prefix", ["", "/", "/in", "/in/", "/in/deeper"])
def test_a_prefix_is_a_folder_with_or_without_its_slash(inbox, prefix):
    folder = prefix.strip("/")
    inbox.put({"yes/a.wav": b"content"}, prefix=f"{folder}/" if folder else "")
    assert inbox.contents(address=f"s3://{inbox.name}{prefix}") == {"yes/a.wav": b"content"}


def test_of_10_000_objects_exactly_the_100_new_ones_are_fetched(inbox, proxy):
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    contents = recordings(10_000)
    server = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for key, content in contents.items():  # in its memory: a request each would take a minute
        server.put_object(inbox.name, f"in/{key}", content, disable_notification=True)
    new = set(random.Random(0).sample(sorted(contents), 100))
    memory = memory_of({path: content for path, content in contents.items() if path not in new})
    listing = inbox.contents(memory)
    assert sorted(proxy.gets) == sorted(f"in/{path}" for path in new)
    assert listing == {path: content if path in new else None for path, content in contents.items()}


def test_a_changed_object_is_fetched_again_and_no_other(inbox, proxy):
    contents = recordings(5)
    inbox.put(contents)
    inbox.entries()
    inbox.put({"yes/00002.wav": b"another"})
    proxy.gets.clear()
    assert inbox.contents(memory_of(contents))["yes/00002.wav"] == b"another"
    assert proxy.gets == ["in/yes/00002.wav"]


HOSTILE = {
    "../yes/a.wav": "..",
    "yes/../../a.wav": "..",
    "a/../yes/b.wav": "..",
    "./yes/a.wav": "..",
    "/yes/a.wav": "empty",
    "/a.wav": "empty",
    " /a.wav": "empty",
    "yes//a.wav": "empty",
    "yes\\a.wav": "backslash",
    "yes/..\\..\\a.wav": "backslash",
    "yes/a\rb.wav": "control character",
    "yes/\x1b[2J.wav": "control character",
    "ye\x00s/a.wav": "control character",
    "no/\u202egnp.wav": "control character",
    f"yes/{'l' * 300}.wav": "255 bytes",
}


def test_hostile_keys_are_named_and_never_fetched(inbox, proxy):
    inbox.put(dict.fromkeys(HOSTILE, b"hostile"))
    inbox.put({"yes/good.wav": b"good"})
    files = inbox.entries()
    assert [file.content for file in files if not file.refused] == [b"good"]
    assert proxy.gets == ["in/yes/good.wav"]
    reasons = {file.path: file.refused for file in files if file.refused}
    assert all(path.isprintable() for path in reasons)
    expected = {key if key.isprintable() and "\\" not in key else ascii(key)[1:-1]: HOSTILE[key] for key in HOSTILE}
    assert reasons.keys() == expected.keys()
    assert [path for path, reason in reasons.items() if expected[path] not in reason] == []


def test_labels_that_differ_only_in_case_or_form_give_way_to_the_known_one_or_to_that_of_most_keys(inbox):
    keys = ["Yes/a.wav", "Yes/b.wav", "yes/a.wav", "NO/a.wav", "no/a.wav", "no/b.wav"]
    keys += ["_Background_Noise_/a.wav", "_Background_Noise_/b.wav", "_background_noise_/a.wav"]
    inbox.put(dict.fromkeys(keys, b"content"))
    refusals = {file.path: file.refused for file in inbox.entries(existing_labels=frozenset({"yes"}))}
    assert [path for path in keys if not refusals[path]] == [
        "yes/a.wav",
        "no/a.wav",
        "no/b.wav",
        "_background_noise_/a.wav",
    ]
    assert "'Yes'" in refusals["Yes/a.wav"]
    assert "'yes'" in refusals["Yes/a.wav"]
    assert "'no'" in refusals["NO/a.wav"]
    assert "'NO'" in refusals["NO/a.wav"]


COMPOSED = "caf\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def test_labels_from_macos_stay_the_known_label_until_a_key_spells_it_as_it_is_known(inbox):
    inbox.put({f"{DECOMPOSED}/a.wav": b"a"})
    known = frozenset({COMPOSED})
    assert inbox.contents() == inbox.contents(existing_labels=known) == {f"{COMPOSED}/a.wav": b"a"}
    inbox.put({f"{COMPOSED}/b.wav": b"b"})
    taken = [{file.path: file.content for file in inbox.entries(existing_labels=labels)} for labels in (known, set())]
    assert taken[0] == {f"{COMPOSED}/b.wav": b"b", "cafe\\u0301/a.wav": None}
    assert taken[1] == {f"{COMPOSED}/a.wav": b"a", f"{COMPOSED}/b.wav": None}


def test_of_two_keys_that_are_one_in_nfc_the_first_is_taken(inbox):
    inbox.put({f"yes/{COMPOSED}.wav": b"second", f"yes/{DECOMPOSED}.wav": b"first"})
    taken, refused = sorted(inbox.entries(), key=lambda file: file.refused)
    assert (taken.path, taken.content) == (f"yes/{COMPOSED}.wav", b"first")
    assert refused.path == f"yes/{COMPOSED}.wav"
    assert "Unicode form" in refused.refused


def test_an_object_beyond_the_limit_is_refused_and_not_fetched(inbox, proxy):
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    content = bytes(256 * 2**20 + 1)
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(inbox.name, "in/yes/huge.wav", content)
    (huge,) = inbox.entries()
    assert huge.path == "yes/huge.wav"
    assert str(len(content)) in huge.refused
    assert proxy.gets == []


def test_an_object_that_changes_before_it_is_read_is_taken_whole_as_it_is_then(inbox, proxy):
    contents = recordings(20)
    inbox.put(contents)
    changing = "yes/00007.wav"

    def change(key: str) -> None:
        if key == f"in/{changing}" and proxy.gets.count(key) == 1:
            inbox.put({changing: b"the new content, longer than the old one" * 20})

    proxy.on_get = change
    new = b"the new content, longer than the old one" * 20
    files = {file.path: file for file in inbox.entries()}
    assert {path: file.content for path, file in files.items()} == contents | {changing: new}
    assert files[changing].version == version_of(new)


def test_an_object_that_is_deleted_or_never_rests_is_left_out_with_a_note(inbox, proxy, capsys):
    contents = recordings(5)
    inbox.put(contents)
    rounds = itertools.count()

    def disturb(key: str) -> None:
        if key == "in/yes/00001.wav":
            inbox.client.delete_object(Bucket=inbox.name, Key=key)
        if key == "in/yes/00003.wav":
            inbox.put({"yes/00003.wav": b"%d" % next(rounds)})

    proxy.on_get = disturb
    assert inbox.contents() == {f"yes/0000{number}.wav": contents[f"yes/0000{number}.wav"] for number in (0, 2, 4)}
    noted = capsys.readouterr().err
    assert "00001.wav was deleted" in noted
    assert "00003.wav changed" in noted


def test_nothing_is_lost_or_doubled_when_a_fifth_of_all_requests_fails(inbox, proxy):
    contents = recordings(150) | recordings(50, "no")
    inbox.put(contents)
    faults = ("drop", "stall", "truncate", "shorten", "busy")

    def fail(request: str, attempt: int) -> str:
        chance = random.Random(f"4 {request} {attempt}".replace(inbox.name, ""))
        return chance.choice(faults) if chance.random() < 0.2 else ""

    proxy.fault = fail
    assert inbox.contents(timeout_seconds=1.0) == contents
    assert set(proxy.faults) == {"", *faults}
    assert sum(proxy.faults.values()) - proxy.faults[""] >= 0.15 * sum(proxy.faults.values())


def test_a_page_of_the_listing_that_breaks_off_is_asked_for_again(inbox, proxy):
    inbox.put(recordings(3))
    proxy.fault = lambda request, attempt: "truncate" if "list-type" in request and attempt < 5 else ""
    assert len(inbox.entries()) == 3


def test_of_a_long_listing_only_the_page_that_breaks_off_is_asked_for_again(inbox, proxy):
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    contents = recordings(2500)
    server = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for key, content in contents.items():
        server.put_object(inbox.name, f"in/{key}", content, disable_notification=True)
    proxy.fault = lambda request, attempt: "truncate" if "continuation-token" in request and attempt < 2 else ""
    assert inbox.contents(memory_of(contents)) == dict.fromkeys(contents)
    assert sorted(proxy.requests.values()) == [1, 3, 3]


def test_an_object_that_fails_each_time_is_named_and_the_others_wait_in_the_staging(inbox, proxy):
    contents = recordings(30)
    inbox.put(contents)
    proxy.fault = lambda request, attempt: ("truncate", "busy")[attempt % 2] if "00029.wav" in request else ""
    with pytest.raises(UserError, match=f"s3://{inbox.name}/in/yes/00029.wav cannot be read"):
        inbox.entries()
    assert proxy.gets.count("in/yes/00029.wav") == 8
    proxy.fault = lambda *_: ""
    proxy.gets.clear()
    assert inbox.contents() == contents
    assert proxy.gets == ["in/yes/00029.wav"]


FETCHING = """
import sys
from pathlib import Path
from earmark.dataset.sources import s3
for _ in s3.entries(sys.argv[1], Path(sys.argv[2]), {}):
    pass
"""


def test_after_a_kill_only_the_rest_is_fetched(inbox, proxy):
    contents = recordings(60)
    inbox.put(contents)
    served, all_held, released = threading.Semaphore(25), threading.Semaphore(0), threading.Event()

    def hold(_: str) -> None:
        if not served.acquire(blocking=False):
            all_held.release()
            released.wait()

    proxy.on_get = hold
    child = subprocess.Popen([sys.executable, "-c", FETCHING, f"s3://{inbox.name}/in", inbox.staging])
    try:
        # Once every worker waits for an answer, the 25 objects before are staged.
        assert all(all_held.acquire(timeout=60) for _ in range(WORKERS))
    finally:
        child.kill()
        child.wait()
        released.set()
    proxy.on_get = lambda _: None
    proxy.gets.clear()
    assert inbox.contents() == contents
    assert len(proxy.gets) == len(set(proxy.gets)) == 60 - 25


def test_of_what_is_staged_only_whole_files_of_the_present_version_count(inbox, proxy):
    contents = recordings(3)
    inbox.put(contents)
    inbox.entries()
    torn = next(file for file in inbox.staging.iterdir() if file.read_bytes() == contents["yes/00000.wav"])
    torn.write_bytes(torn.read_bytes()[:-1])
    leftover = inbox.staging / "killed.part"
    leftover.write_bytes(b"half")
    inbox.put({"yes/00001.wav": b"changed since"})
    proxy.gets.clear()
    assert inbox.contents() == contents | {"yes/00001.wav": b"changed since"}
    assert sorted(proxy.gets) == ["in/yes/00000.wav", "in/yes/00001.wav"]
    assert not leftover.exists()


def test_a_disk_that_cannot_be_written_is_a_sentence(inbox):
    inbox.put(recordings(1))
    inbox.staging.write_text("a file, where the folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        inbox.entries()


@pytest.mark.parametrize("address", ["s3://", "s3:///in", "s3://a b/in", "s3://AKIAKEY:topsecret@bucket/in"])
def test_a_malformed_address_is_a_sentence(address, tmp_path):
    with pytest.raises(UserError, match="is not the address of a bucket") as raised:
        list(s3.entries(address, tmp_path, {}))
    assert "topsecret" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "has no bucket 'nowhere'"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "expected credentials"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "expected credentials"),
        ({"AWS_PROFILE": "nobody"}, "expected credentials"),
        ({"AWS_ENDPOINT_URL": "http://user:topsecret@127.0.0.1:1"}, "cannot be read from http://127.0.0.1:1 "),
        ({"AWS_ENDPOINT_URL": "no URL"}, r"an http\(s\) URL in AWS_ENDPOINT_URL"),
    ],
)
def test_a_bucket_that_cannot_be_opened_is_a_sentence(proxy, monkeypatch, tmp_path, settings, message):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message) as raised:
        list(s3.entries("s3://nowhere/in", tmp_path, {}))
    assert "\n" not in str(raised.value)
    assert "secret-of-the-test" not in str(raised.value)
    assert "topsecret" not in str(raised.value)


def test_a_server_that_cannot_be_connected_to_is_reported_soon(proxy, monkeypatch, tmp_path):
    connections = []

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self):
            connections.append(self.client_address)

    with socketserver.TCPServer(("127.0.0.1", 0), HangUp) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{server.server_address[1]}")
            with pytest.raises(UserError, match="expected a server that answers"):
                list(s3.entries("s3://bucket/in", tmp_path, {}))
        finally:
            server.shutdown()
    assert len(connections) == 3


def test_a_bucket_that_may_not_be_read_is_a_sentence(inbox, proxy):
    inbox.put(recordings(1))
    proxy.fault = lambda *_: "denied"
    with pytest.raises(UserError, match=f"s3://{inbox.name}/in is refused .* expected credentials"):
        inbox.entries()
    proxy.fault = lambda request, _: "denied" if "00000.wav" in request else ""
    with pytest.raises(UserError, match=f"s3://{inbox.name}/in/yes/00000.wav is refused"):
        inbox.entries()
