"""The layout of a data set: the meaning of paths, the content of lists, labels that can be distinguished."""

import unicodedata

import pytest

from earmark.dataset.layout import Clip, Inventory, Noise, SplitList, check_labels, interpret, parse_list
from earmark.errors import UserError

NFC = "grüß gott"
NFD = unicodedata.normalize("NFD", NFC)


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("yes/a.wav", Clip("yes", "a.wav")),
        ("yes/A.WAV", Clip("yes", "A.WAV")),
        ("turn left/a b.wav", Clip("turn left", "a b.wav")),
        (f"{NFD}/a.wav", Clip(NFC, "a.wav")),
        ("_unknown_/a.wav", Clip("_unknown_", "a.wav")),
        ("_background_noise_/tap.wav", Noise("tap.wav")),
        ("validation_list.txt", SplitList("validation")),
        ("testing_list.txt", SplitList("test")),
    ],
)
def test_a_part_of_the_data_set_is_told(path, entry):
    assert interpret(path) == entry


@pytest.mark.parametrize(
    "path",
    [
        "",
        "README.md",
        "LICENSE",
        "a.wav",
        "yes",
        "yes/a.mp3",
        "yes/.DS_Store",
        "yes/._a.wav",
        "yes/.wav",
        ".cache/a.wav",
        "__MACOSX/a.wav",
        "_background_noise_/README.md",
        "yes/testing_list.txt",
        "yes/more/a.wav",
        "/yes/a.wav",
        "/a.wav",
        "yes//a.wav",
        "../a.wav",
    ],
)
def test_another_file_is_no_part_of_the_data_set(path):
    assert interpret(path) is None


def test_the_id_of_a_clip_is_what_the_lists_name():
    assert interpret("yes/a_nohash_0.wav").id == "yes/a_nohash_0.wav"


def test_a_list_is_read_whatever_the_line_ends_and_unicode_form():
    content = f"\ufeffyes/a.wav\r\n\n  no/b.wav  \n{NFD}/c.wav".encode()
    assert parse_list(content, "testing_list.txt") == {"yes/a.wav", "no/b.wav", f"{NFC}/c.wav"}


def test_an_empty_list_has_no_entries():
    assert parse_list(b"\n", "testing_list.txt") == frozenset()


@pytest.mark.parametrize("line", ["a.wav", "yes/a.mp3", "data/yes/a.wav", "yes\\a.wav", "_background_noise_/tap.wav"])
def test_a_list_with_a_line_that_names_no_clip_is_refused_with_its_number(line):
    with pytest.raises(UserError, match=r"testing_list\.txt, line 2, is .*<label>/<clip>\.wav"):
        parse_list(f"yes/a.wav\n{line}\n".encode(), "testing_list.txt")


def test_a_list_in_another_encoding_is_refused():
    with pytest.raises(UserError, match=r"testing_list\.txt is not UTF-8 at byte 2"):
        parse_list("grüß/a.wav".encode("latin-1"), "testing_list.txt")


def test_labels_that_differ_are_allowed():
    assert check_labels(["yes", "no", "turn left", NFC, "はい", "_unknown_", "yes"]) is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no label"),
        (["yes"], "only the label 'yes'"),
        (["yes", "yes"], "only the label 'yes'"),
        (["yes", "Yes"], "'Yes' and 'yes' differ only in case"),
        ([NFC, NFD], "differ only in case or Unicode form"),
        ([NFD.upper(), NFC], "differ only in case or Unicode form"),
        (["yes", "n\x07o"], r"'n\\x07o' is empty or has a control character"),
        (["yes", "n\no"], "control character"),
        (["yes", "n\u2028o"], "control character"),
        (["yes", "n\udcffo"], "control character"),
        (["yes", " "], "empty"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels, message):
    with pytest.raises(UserError, match=message):
        check_labels(labels)


def test_an_inventory_admits_each_path_once_in_nfc():
    inventory = Inventory("the folder d")
    assert inventory.admit(f"{NFD}/a.wav") == f"{NFC}/a.wav"
    assert inventory.admit(f"{NFD}/b.wav") == f"{NFC}/b.wav"
    assert inventory.admit("README.md") is None
    assert inventory.admit("README.md") is None
    with pytest.raises(UserError, match=r"the folder d has 'grüß gott/a\.wav' more than once"):
        inventory.admit(f"{NFD}/a.wav")


def test_an_inventory_refuses_a_label_spelled_in_two_ways():
    inventory = Inventory("the folder d")
    inventory.admit(f"{NFD}/a.wav")
    with pytest.raises(UserError, match=r"the folder d has the folders .* differ only in Unicode form"):
        inventory.admit(f"{NFC}/b.wav")


@pytest.mark.parametrize("path", ["yes/a\n.wav", "n\x1bo/a.wav", "yes/\udcff.wav"])
def test_an_inventory_refuses_control_characters(path):
    with pytest.raises(UserError, match="printable"):
        Inventory("the folder d").admit(path)
