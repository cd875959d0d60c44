"""The command `earmark`: one subcommand per stage, and commands for data, models and the registry."""

import math
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import click

from earmark.addresses import without_passwords
from earmark.errors import UserError

_ENDED_BY_CTRL_C = 130
"""The exit code that shells use for it."""
SECTIONS = {
    "Pipeline": ("ingest", "validate", "extract", "train", "evaluate", "register"),
    "Data": ("ls", "cat", "unpack", "forget", "upload"),
    "Models": ("tune", "predict", "listen", "export"),
    "Registry": ("registry", "lineage", "reproduce"),
    "Team": ("fetch", "publish"),
}
"""How `earmark --help` groups the commands."""


class _Commands(click.Group):
    """Groups the commands in the help. Turns an error for the user into one sentence and its exit code."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes one section of the help for each of SECTIONS."""
        width = max(map(len, self.commands))
        for heading, names in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), self.commands[name].get_short_help_str(90)) for name in names])

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"earmark: {without_passwords(str(error))}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(_ENDED_BY_CTRL_C)


@click.group(cls=_Commands)
@click.version_option(package_name="earmark")
def main() -> None:
    """Turns labelled recordings into a registered sound classifier."""
    # No telemetry, and no start-up messages of TensorFlow among those of a stage.
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "true")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from earmark.params import environment

    environment.exempt_loopback_from_proxies()


_WAIT = click.option("--wait", is_flag=True, help="If another run holds this checkout, wait for its end.")


def _stage(name: str, wait: bool, *arguments: str) -> None:
    import importlib

    from earmark import params

    with _only_run(wait, name, *arguments):
        loaded = params.load()
        stage = getattr(importlib.import_module(f"earmark.stages.{name}"), name)
        click.echo(f"{name}: {stage(loaded, *arguments)}")


def _only_run(wait: bool, *command: str) -> AbstractContextManager[None]:
    """Holds the lock of this checkout: for commands that write what others read."""
    from earmark import params
    from earmark.io.run_lock import only_run
    from earmark.paths import RUN

    if not params.PATH.exists():
        params.load()  # which says so: nothing is written outside of a checkout
    return only_run(RUN, " ".join(("earmark", *command)), wait)


@main.command()
@_WAIT
def ingest(wait: bool) -> None:
    """Read new recordings from dataset.source and dataset.inbox into data/raw."""
    _stage("ingest", wait)


@main.command()
@_WAIT
def validate(wait: bool) -> None:
    """Check the clips; write data/accepted.parquet, data/quarantine, reports/validation."""
    _stage("validate", wait)


@main.command()
@_WAIT
def extract(wait: bool) -> None:
    """Compute the features of every clip; write data/features."""
    _stage("extract", wait)


@main.command()
@click.argument("candidate")
@_WAIT
def train(candidate: str, wait: bool) -> None:
    """Train CANDIDATE; write models/CANDIDATE."""
    _stage("train", wait, candidate)


@main.command()
@_WAIT
def evaluate(wait: bool) -> None:
    """Score every candidate; write reports/metrics.json, reports/report.html."""
    _stage("evaluate", wait)


@main.command()
@_WAIT
def register(wait: bool) -> None:
    """Register the best candidate in MLflow."""
    _stage("register", wait)


@main.command()
@click.argument("candidate")
@click.option(
    "--minutes",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after this time; the next run continues.",
)
def tune(candidate: str, minutes: float) -> None:
    """Search for better settings of CANDIDATE; write tuning/CANDIDATE.patch."""
    from earmark import params
    from earmark.commands.tune import tune

    if math.isnan(minutes):  # passes click's range check
        raise UserError("--minutes: nan is not a time; expected a number above 0")
    click.echo(f"tune: {tune(params.load(), candidate, minutes)}")


@main.command("ls")
def list_recordings() -> None:
    """List every recording: id, speaker, split, seconds."""
    from earmark.commands import recordings

    for line in recordings.lines():
        click.echo(line)


@main.command()
@click.argument("recording", metavar="ID")
def cat(recording: str) -> None:
    """Write the file of recording ID to standard output."""
    from earmark.commands import recordings

    click.echo(recordings.content(recording), nl=False)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def unpack(folder: Path) -> None:
    """Write the file of every recording into a new folder DIR."""
    from earmark.commands import recordings

    click.echo(f"unpack: {recordings.unpack(folder)}")


@main.command()
@click.option("--speaker", required=True, metavar="ID", help="The speaker; 'earmark ls' lists the IDs.")
@_WAIT
def forget(speaker: str, wait: bool) -> None:
    """Remove a speaker's recordings, and list where copies remain."""
    from earmark import params
    from earmark.commands.forget import forget

    with _only_run(wait, "forget"):  # not the speaker: others may read it
        click.echo(f"forget: {forget(params.load(), speaker)}")


@main.command()
@_WAIT
def upload(wait: bool) -> None:
    """Copy data/raw to extract.raw, for extraction from a bucket."""
    from earmark import params
    from earmark.commands.upload import upload

    with _only_run(wait, "upload"):
        click.echo(f"upload: {upload(params.load())}")


@main.command()
@click.option("--repository", default="", metavar="ADDRESS", help="Refuse a clone of another repository.")
@click.option("--branch", default="", help="Refuse a clone on another branch.")
@_WAIT
def fetch(repository: str, branch: str, wait: bool) -> None:
    """Bring in what others published: commits from git, data from the DVC remote."""
    from earmark.commands import sharing

    with _only_run(wait, "fetch"):
        click.echo(f"fetch: {sharing.fetch(repository, branch)}")


@main.command()
@_WAIT
def publish(wait: bool) -> None:
    """Publish data, results and versions: through the DVC remote, a commit, tags."""
    from earmark import params
    from earmark.commands import sharing

    with _only_run(wait, "publish"):
        click.echo(f"publish: {sharing.publish(params.load())}")


_VERSION = click.argument("version", metavar="VERSION|ALIAS")


@main.command()
@_VERSION
def lineage(version: str) -> None:
    """Show and check what a version was made from.

    The exit code is 1 if something is missing or damaged.
    """
    from earmark import params
    from earmark.commands.lineage import lineage

    text, holds = lineage(params.load(), version)
    click.echo(text)
    sys.exit(0 if holds else 1)


@main.command()
@_VERSION
def reproduce(version: str) -> None:
    """Rebuild a version in a temporary folder, and compare it with the registered one.

    Prints "identical", or lists the differences and exits with code 1.
    """
    from earmark import params
    from earmark.commands.reproduce import reproduce

    text, identical = reproduce(params.load(), version)
    click.echo(text)
    sys.exit(0 if identical else 1)


_of_model = click.option(
    "--model",
    help="A version, an alias, models:/NAME/VERSION, models:/NAME@ALIAS, or a folder written with a slash, as in"
    " models/NAME or ./NAME; default: champion.",
)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_of_model
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per line: file, label, probability, accepted, top."
)
def predict(paths: tuple[Path, ...], model: str | None, as_json: bool) -> None:
    """Predict the labels of WAV files, or of all WAV files in folders."""
    from earmark.commands.predict import predict_paths

    sys.exit(predict_paths(paths, model, as_json))


@main.command()
@click.argument("source", metavar="VERSION|ALIAS|FOLDER")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--format", "format_", required=True, type=click.Choice(["litert", "litert-int8", "onnx"]))
def export(source: str, folder: Path, format_: str) -> None:
    """Convert a model for another runtime, into a new folder DIR.

    The converted model is first scored on the test split. Nothing is written if it loses too much accuracy.
    Write FOLDER with a slash, as in models/NAME or ./NAME; a word without one is a version or an alias.
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
    help="Lowest probability of a detection, 0 to 1; default: the model's rejection threshold.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line: seconds, label, probability.")
def listen(source: str, model: str | None, threshold: float | None, as_json: bool) -> None:
    """Detect words and their times in a recording of any length.

    With -, reads audio from standard input as it arrives: raw PCM without a header, 16-bit little-endian, mono, at the
    model's sample rate (dataset.sample_rate_hz, 16000 by default).
    """
    from earmark.commands.listen import listen

    listen(source, model, threshold, as_json)


@main.group()
def registry() -> None:
    """List versions, show one, promote one, roll back."""


_why = click.option("--why", required=True, metavar="TEXT", help="The reason; it is recorded.")


@registry.command("list")
def list_versions() -> None:
    """List every version, latest first."""
    from earmark import params
    from earmark.commands import registry

    click.echo(registry.list_versions(params.load()))


@registry.command()
@_VERSION
def show(version: str) -> None:
    """Show a version: the gate's checks, its provenance, its aliases."""
    from earmark import params
    from earmark.commands import registry

    click.echo(registry.show(params.load(), version))


@registry.command()
@_VERSION
@_why
def promote(version: str, why: str) -> None:
    """Make a version champion, whatever the gate says."""
    from earmark import params
    from earmark.commands import registry

    click.echo(f"promote: {registry.promote(params.load(), version, why)}")


@registry.command()
@_why
def rollback(why: str) -> None:
    """Return to the previous champion."""
    from earmark import params
    from earmark.commands import registry

    click.echo(f"rollback: {registry.rollback(params.load(), why)}")
