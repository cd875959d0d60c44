"""The published Speech Commands archives with their addresses and checksums."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OfficialArchive:
    """An archive that never changes; `sha256` is in hex digits."""

    name: str
    url: str
    sha256: str


ARCHIVES = {
    archive.name: archive
    for archive in (
        OfficialArchive(
            name="speech_commands_v0.01",
            url="http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
            sha256="743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        ),
        OfficialArchive(
            name="speech_commands_v0.02",
            url="http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ),
    )
}
