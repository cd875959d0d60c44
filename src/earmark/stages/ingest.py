"""ingest: recordings from a source and an inbox into raw shards and a manifest."""

from pathlib import Path

from earmark.dataset import ingestion_record
from earmark.dataset.sources import open_inbox, open_source
from earmark.errors import UserError
from earmark.io.files import exclusive_writer, restore, write_json
from earmark.params import Params
from earmark.paths import DOWNLOADS, FEATURES, GLANCE, QUARANTINE, RAW

OWN = (RAW, QUARANTINE, FEATURES, FEATURES.with_name(f"{FEATURES.name}.aside"))


def ingest(params: Params) -> str:
    """Brings data/raw up to date with its source and its inbox; returns a sentence on what happened.

    Shards are added, never rewritten. data/raw changes as a whole or not at all, and stays untouched when nothing is
    new.
    """
    for key in ("source", "inbox"):
        _refuse_own_files(key, getattr(params.dataset, key))
    with exclusive_writer(RAW):
        restore(RAW)
        recorded = ingestion_record.read(RAW)
        source = open_source(params.dataset.source, params.seed, params.dataset.speakers, DOWNLOADS)
        names, seen = [source.name], [source.name, source.glance()]
        if params.dataset.inbox:
            inbox = open_inbox(params.dataset.inbox, frozenset(), DOWNLOADS)
            names, seen = [inbox.name, *names], [inbox.name, inbox.glance(), *seen]
        if recorded and ingestion_record.read_json(GLANCE) == _glance(params, recorded, seen):
            return f"nothing new in {' and '.join(names)}"
        # Only now, since every run of the pipeline asks for news and mostly there are none.
        from earmark.dataset.sync import grow

        said = grow(params, source, recorded)
        write_json(GLANCE, _glance(params, ingestion_record.read(RAW), seen))
        return said


def _refuse_own_files(key: str, address: str) -> None:
    path = Path(address).resolve()
    if address and (path == RAW.parent.resolve() or any(path.is_relative_to(own.resolve()) for own in OWN)):
        raise UserError(f"dataset.{key} is '{address}', which has what earmark makes: allowed are recordings elsewhere")


def _glance(params: Params, recorded: dict, seen: list[str]) -> dict:
    """What was asked for and what there was, before anything was read: the same again means that nothing is new."""
    return {"splitting": ingestion_record.splitting(params), "recorded": recorded, "seen": seen}
