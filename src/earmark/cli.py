"""The command `earmark`: one subcommand a stage, and what people do with a model."""

import os
import sys
from pathlib import Path

import click

from earmark.errors import UserError

_ENDED_BY_CTRL_C = 130
"""The exit code by which shells know it."""


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
@click.option(
    "--minutes",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="After how many minutes no further trial begins.",
)
def tune(candidate: str, minutes: float) -> None:
    """Searches better settings of CANDIDATE: tuning/CANDIDATE.patch."""
    from earmark import params
    from earmark.commands.tune import tune

    click.echo(f"tune: {tune(params.load(), candidate, minutes)}")


@main.command("ls")
def list_recordings() -> None:
    """Every recording: id, speaker, split, seconds."""
    from earmark.commands import recordings

    for line in recordings.lines():
        click.echo(line)


@main.command()
@click.argument("recording", metavar="ID")
def cat(recording: str) -> None:
    """The file of the recording ID, to standard output."""
    from earmark.commands import recordings

    click.get_binary_stream("stdout").write(recordings.content(recording))


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def unpack(folder: Path) -> None:
    """Every recording's file into a new folder DIR."""
    from earmark.commands import recordings

    click.echo(f"unpack: {recordings.unpack(folder)}")


@main.command()
@click.option("--speaker", required=True, metavar="ID", help="Whose recordings; 'earmark ls' shows the IDs.")
def forget(speaker: str) -> None:
    """Removes a person's recordings, and says who still has them."""
    from earmark import params
    from earmark.commands.forget import forget

    click.echo(f"forget: {forget(params.load(), speaker)}")


_VERSION = click.argument("version", metavar="VERSION|ALIAS")


@main.command()
@_VERSION
def lineage(version: str) -> None:
    """Where a registered version comes from, each link checked; exit code 1 where one is missing or damaged."""
    from earmark import params
    from earmark.commands.lineage import lineage

    text, holds = lineage(params.load(), version)
    click.echo(text)
    sys.exit(0 if holds else 1)


@main.command()
@_VERSION
def reproduce(version: str) -> None:
    """Makes a registered version again elsewhere: "identical", or what differs and exit code 1."""
    from earmark import params
    from earmark.commands.reproduce import reproduce

    text, identical = reproduce(params.load(), version)
    click.echo(text)
    sys.exit(0 if identical else 1)


_of_model = click.option(
    "--model",
    help="A version, an alias, a folder with a / in it, as in models/NAME or ./NAME, models:/NAME/VERSION or"
    " models:/NAME@ALIAS; default: champion.",
)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_of_model
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line: file, label, probability, accepted, top."
)
def predict(paths: tuple[Path, ...], model: str | None, as_json: bool) -> None:
    """Labels of WAV files, or of all of them in folders."""
    from earmark.commands.predict import predict_paths

    sys.exit(predict_paths(paths, model, as_json))


@main.command()
@click.argument("source", metavar="VERSION|ALIAS|FOLDER")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--format", "format_", required=True, type=click.Choice(["litert", "litert-int8", "onnx"]))
def export(source: str, folder: Path, format_: str) -> None:
    """A model as a file for another runtime, in a new folder DIR, once the test split shows what it loses.

    A FOLDER is written with a / in it, as in models/NAME or ./NAME; a bare word is a version or an alias.
    """
    from earmark import params
    from earmark.commands.export import export

    click.echo(f"export: {export(params.load(), source, format_, folder)}")


@main.command()
@click.argument("source", metavar="FILE|-")
@_of_model
@click.option(
    "--threshold",
    type=float,
    help="The probability, 0 to 1, from which on a word counts as heard; default: the model's rejection_threshold.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: seconds, label, probability.")
def listen(source: str, model: str | None, threshold: float | None, as_json: bool) -> None:
    """Words in a recording of any length, as they are heard, each with its time.

    With - the audio comes from standard input while it is spoken, as raw PCM without a header: 16-bit little-endian
    samples, mono, at the model's sample rate (dataset.sample_rate_hz, 16000 by default).
    """
    try:
        from earmark.commands.listen import listen

        listen(source, model, threshold, as_json)
    except KeyboardInterrupt:
        sys.exit(_ENDED_BY_CTRL_C)


@main.group()
def registry() -> None:
    """What is registered, and which version is champion."""


_why = click.option("--why", required=True, metavar="TEXT", help="The reason, which is recorded with the move.")


@registry.command("list")
def list_versions() -> None:
    """Every version, the latest first."""
    from earmark import params
    from earmark.commands import registry

    click.echo(registry.list_versions(params.load()))


@registry.command()
@_VERSION
def show(version: str) -> None:
    """All that is known of a version: the gate's checks, where it comes from, who moved which alias to it."""
    from earmark import params
    from earmark.commands import registry

    click.echo(registry.show(params.load(), version))


@registry.command()
@_VERSION
@_why
def promote(version: str, why: str) -> None:
    """Makes a version champion, whatever the gate says."""
    from earmark import params
    from earmark.commands import registry

    click.echo(f"promote: {registry.promote(params.load(), version, why)}")


@registry.command()
@_why
def rollback(why: str) -> None:
    """Makes the champion before the present one champion again."""
    from earmark import params
    from earmark.commands import registry

    click.echo(f"rollback: {registry.rollback(params.load(), why)}")
