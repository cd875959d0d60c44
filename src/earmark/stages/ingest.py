"""ingest: recordings from a source and an inbox into raw shards and a manifest."""

from earmark.corpus.sources import open_source
from earmark.params import Params
from earmark.stages.paths import DOWNLOADS, RAW
from earmark.stores import ledger
from earmark.stores.files import restore, sole_writer


def ingest(params: Params) -> str:
    """Brings data/raw up to date with its source and its inbox; returns a sentence on what happened.

    Shards are added, never rewritten. data/raw changes as a whole or not at all, and stays untouched when nothing is
    new.
    """
    with sole_writer(RAW):
        restore(RAW)
        recorded = ledger.read(RAW)
        source = open_source(params.dataset.source, params.seed, params.dataset.speakers, DOWNLOADS)
        is_split = recorded == recorded | ledger.splitting(params)
        if is_split and not params.dataset.inbox and ledger.has_read(recorded, "source", source.signature):
            return f"nothing new in {source.name}"
        # Only now, since every run of the pipeline asks for news and mostly there are none.
        from earmark.stages.growth import grow

        return grow(params, source, recorded)
