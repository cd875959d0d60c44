"""The files of a small data set, and others beside them that are no part of it: path -> content."""

import unicodedata

NFC = "grüß gott"
NFD = unicodedata.normalize("NFD", NFC)
DATA_SET = {
    "_background_noise_/tap.wav": b"noise",
    f"{NFC}/a b.wav": b"greeting",
    "no/a_nohash_0.WAV": b"no",
    "testing_list.txt": b"yes/a_nohash_0.wav\n",
    "validation_list.txt": b"",
    "yes/a_nohash_0.wav": b"yes" * 1000,
}
BESIDES = {
    "README.md": b"read",
    "LICENSE": b"free",
    ".hidden/a.wav": b"",
    "yes/.DS_Store": b"",
    "yes/._a_nohash_0.wav": b"",
    "__MACOSX/yes/a.wav": b"",
    "_background_noise_/README.md": b"",
}
FILES = DATA_SET | BESIDES
