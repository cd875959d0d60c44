"""ingest: brings recordings from a source and an inbox into raw shards and a manifest."""

from pathlib import Path
from typing import Any

from earmark.dataset import ingestion_record
from earmark.dataset.sources import open_inbox, open_source
from earmark.dataset.sources.source import Context
from earmark.errors import UserError
from earmark.io.files import exclusive_writer, restore, write_json
from earmark.params import Params
from earmark.paths import DOWNLOADS, FEATURES, FINGERPRINT, QUARANTINE, RAW

OWN_FOLDERS = (RAW, QUARANTINE, FEATURES, FEATURES.with_name(f"{FEATURES.name}.aside"))


def ingest(params: Params) -> str:
    """Brings data/raw up to date with its source and its inbox; returns one sentence.

    Shards are added, never rewritten. data/raw changes as a whole or not at all, and not if nothing is new.
    """
    for key in ("source", "inbox"):
        _refuse_own_files(key, getattr(params.dataset, key))
    with exclusive_writer(RAW):
        restore(RAW)
        record = ingestion_record.read(RAW)
        context = Context(params.seed, params.dataset.speakers, DOWNLOADS)
        source = open_source(params.dataset.source, context)
        names, fingerprints = [source.name], [source.name, source.local_fingerprint()]
        if params.dataset.inbox:
            inbox = open_inbox(params.dataset.inbox, context)
            names, fingerprints = [inbox.name, *names], [inbox.name, inbox.local_fingerprint(), *fingerprints]
        if record and ingestion_record.read_json(FINGERPRINT) == _fingerprint(params, record, fingerprints):
            return f"nothing new in {' and '.join(names)}"
        # Imported late: every run of the pipeline comes here, and most of them find nothing new.
        from earmark.dataset.sync import synchronise

        sentence = synchronise(params, source, record)
        write_json(FINGERPRINT, _fingerprint(params, ingestion_record.read(RAW), fingerprints))
        return sentence


def _refuse_own_files(key: str, address: str) -> None:
    path = Path(address).resolve()
    if address and (path == RAW.parent.resolve() or any(path.is_relative_to(own.resolve()) for own in OWN_FOLDERS)):
        raise UserError(f"dataset.{key}: '{address}' is a folder that earmark writes to; expected one elsewhere")


def _fingerprint(params: Params, record: dict[str, Any], fingerprints: list[str]) -> dict[str, Any]:
    """What decides whether anything is new, without reading a recording."""
    return {"splitting": ingestion_record.split_settings(params), "recorded": record, "seen": fingerprints}
