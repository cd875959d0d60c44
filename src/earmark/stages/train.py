"""train: one candidate, from feature shards to a model that takes waveforms."""

import pandas as pd

from earmark.audio import front_ends
from earmark.audio.front_ends import FrontEnd
from earmark.errors import UserError
from earmark.learning.candidates import module_of
from earmark.params import Params
from earmark.stages.paths import ACCEPTED, HISTORIES, MODELS, features_folder
from earmark.stores import features, shards
from earmark.stores.feature_reader import FeatureReader
from earmark.stores.files import whole_file, whole_folder


def train(params: Params, candidate: str) -> str:
    """Trains `candidate`, writes models/<candidate> and its history; live in MLflow meanwhile. Returns a sentence."""
    from earmark.learning import backend, export
    from earmark.stores import tracking

    backend.start(params.seed)
    settings = params.train.candidate(candidate)
    module = module_of(candidate)
    front_end = front_ends.front_end(module.FRONT_END, params)
    stored = front_end.stored
    features.require_settings(features_folder(params) / stored.name, stored.settings())
    accepted = shards.read_accepted(ACCEPTED)
    labels = tuple(sorted(accepted["label"].unique()))
    network = _network(module, front_end, labels, settings.network)
    with tracking.live_run(candidate, params, accepted) as run:
        history = _fit(network, front_end, labels, accepted, params, candidate, run.epoch)
        with whole_folder(MODELS / candidate) as folder:
            export.save(folder, network, front_end, labels)
        with whole_file(HISTORIES / f"{candidate}.csv") as path:
            history.to_csv(path, index=False)
        run.finish(MODELS / candidate)
    last = history.iloc[-1]
    took = f"{len(history)} epochs, {history.seconds.sum():.0f} s"
    return f"{candidate} reached {last.validation_accuracy:.2%} on validation in {took}"


def _network(module, front_end: FrontEnd, labels: tuple[str, ...], settings: dict):
    try:
        return module.build((front_end.frames, front_end.bins), len(labels), **settings)
    except (TypeError, ValueError) as error:
        key, reason = f"train.{module.__name__.rsplit('.', 1)[-1]}.network", " ".join(str(error).split())[:300]
        raise UserError(f"params.yaml: {key} does not fit clips of {front_end.frames} frames: {reason}") from None


def _fit(network, front_end, labels, accepted, params: Params, candidate: str, on_epoch) -> pd.DataFrame:
    from earmark.audio.augmentation import Augmentation
    from earmark.learning import fitting

    settings = params.train.candidate(candidate)
    folder = features_folder(params) / front_end.stored.name
    codes = pd.Series(range(len(labels)), index=labels)

    def examples(split: str) -> fitting.Examples:
        clips = accepted[accepted["split"] == split]
        return fitting.Examples(FeatureReader(folder, clips), codes[clips["label"]].to_numpy())

    augmentation = Augmentation(settings.augmentation, front_end.stored, features.read_noise(folder), params.seed)
    training, validation = examples("training"), examples("validation")

    def report(row: dict) -> None:
        figures = f"accuracy {row['accuracy']:.2%}, validation {row['validation_accuracy']:.2%}"
        speed = f"{len(training.labels) / row['seconds']:.0f} clips/s"
        where = f"{candidate} epoch {row['epoch']}/{settings.epochs}"
        print(f"{where}: loss {row['loss']:.3f}, {figures}, {speed}", flush=True)
        on_epoch(row)

    return fitting.fit(
        network, front_end, augmentation, training, validation, len(labels), settings, params.seed, report
    )
