"""The command `earmark`: one subcommand a stage, and what people do with a model."""

import os
import sys
from pathlib import Path

import click

from earmark.errors import UserError


class _Commands(click.Group):
    """Turns a user's mistake into one sentence and exit code 2."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"earmark: {error}", err=True)
            sys.exit(2)


@click.group(cls=_Commands)
@click.version_option(package_name="earmark")
def main() -> None:
    """Labelled recordings to a registered sound classifier."""
    # Nothing phones home, and TensorFlow's start-up remarks do not bury what a stage says.
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "true")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _stage(name: str, *arguments: str) -> None:
    import importlib

    from earmark import params

    loaded = params.load()
    stage = getattr(importlib.import_module(f"earmark.stages.{name}"), name)
    click.echo(f"{name}: {stage(loaded, *arguments)}")


@main.command()
def ingest() -> None:
    """Recordings from dataset.source into data/raw."""
    _stage("ingest")


@main.command()
def validate() -> None:
    """Which clips are sound: data/accepted.parquet, data/quarantine, reports/validation."""
    _stage("validate")


@main.command()
def extract() -> None:
    """Features of every clip: data/features."""
    _stage("extract")


@main.command()
@click.argument("candidate")
def train(candidate: str) -> None:
    """Trains CANDIDATE: models/CANDIDATE."""
    _stage("train", candidate)


@main.command()
def evaluate() -> None:
    """Scores every candidate: reports/metrics.json, reports/report.html."""
    _stage("evaluate")


@main.command()
def register() -> None:
    """The best candidate into MLflow's registry."""
    _stage("register")


@main.command()
@click.argument("candidate")
def tune(candidate: str) -> None:
    """Looks for better settings of CANDIDATE: tuning/CANDIDATE.patch."""
    from earmark import params
    from earmark.tune import tune

    click.echo(f"tune: {tune(params.load(), candidate)}")


@main.command("ls")
def list_recordings() -> None:
    """Every recording: id, speaker, split, seconds."""
    from earmark import recordings

    for line in recordings.lines():
        click.echo(line)


@main.command()
@click.argument("recording", metavar="ID")
def cat(recording: str) -> None:
    """The file of the recording ID, to standard output."""
    from earmark import recordings

    click.get_binary_stream("stdout").write(recordings.content(recording))


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def unpack(folder: Path) -> None:
    """Every recording's file into a new folder DIR."""
    from earmark import recordings

    click.echo(f"unpack: {recordings.unpack(folder)}")


@main.command()
@click.option("--speaker", required=True, metavar="ID", help="Whose recordings; 'earmark ls' shows the IDs.")
def forget(speaker: str) -> None:
    """Removes a person's recordings, and says who still has them."""
    from earmark import params
    from earmark.forget import forget

    click.echo(f"forget: {forget(params.load(), speaker)}")


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model", help="models:/NAME@ALIAS, models:/NAME/VERSION, or a folder under models/; default: the champion."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: file, label, probability, top.")
def predict(paths: tuple[Path, ...], model: str | None, as_json: bool) -> None:
    """Labels of WAV files, or of all of them in folders."""
    from earmark.predict import predict_paths

    sys.exit(predict_paths(paths, model, as_json))
