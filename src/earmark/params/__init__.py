"""params.yaml as typed, frozen values: read once, unknown keys refused, the first mistake reported in one sentence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from earmark.errors import UserError
from earmark.params import yaml
from earmark.params.fields import Closed, Count, Fraction, NotNegative, Positive, Range
from earmark.params.training import Candidate, Choice, Span, Train, Tune, check_tuning_ranges

PATH = Path("params.yaml")
SplitName = Literal["training", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("training", "validation", "test")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
"""Label of all words in `dataset.unknown_labels`, and label of clips without a word."""
NOT_WORDS = (UNKNOWN, SILENCE)

Floor = Annotated[float, Field(ge=1e-10, le=1.0, strict=True)]
Normalisation = Literal["none", "full_scale"]
Padding = Literal["silence", "repeat", "reflect"]


class Dataset(Closed):
    """Where recordings come from, which labels are used, and the format of a clip."""

    source: Annotated[str, Field(min_length=1)]
    inbox: str
    speakers: Annotated[int, Field(ge=6, le=1000, strict=True)]
    labels: tuple[Annotated[str, Field(min_length=1)], ...]
    unknown_labels: tuple[Annotated[str, Field(min_length=1)], ...]
    silence_fraction: Fraction
    sample_rate_hz: Annotated[int, Field(ge=1000, le=384_000, strict=True)]
    clip_seconds: Annotated[float, Field(gt=0, le=60, strict=True)]
    padding: Padding

    @model_validator(mode="after")
    def _check_labels(self) -> "Dataset":
        for key in ("labels", "unknown_labels"):
            if len(set(getattr(self, key))) != len(getattr(self, key)):
                raise ValueError(f"{key} names a label twice")
        if both := sorted(set(self.labels) & set(self.unknown_labels)):
            raise ValueError(f"labels and unknown_labels both name {both[0]!r}; expected it in one of them")
        if len(self.labels) == 1:
            raise ValueError(f"labels has only {self.labels[0]!r}; expected at least two labels, or none for all")
        return self

    @property
    def clip_samples(self) -> int:
        """Samples in one clip: `clip_seconds` x `sample_rate_hz`, a whole number."""
        return exact_samples(self.clip_seconds, self.sample_rate_hz, "dataset.clip_seconds")


class Split(Closed):
    """How clips are assigned to training, validation and test."""

    method: Literal["speaker", "random", "lists"]
    fractions: Mapping[SplitName, Fraction]

    @model_validator(mode="after")
    def _check_fractions(self) -> "Split":
        if set(self.fractions) != set(SPLITS) or abs(sum(self.fractions.values()) - 1) > 1e-9:
            raise ValueError("fractions must name training, validation and test and add up to 1")
        if min(self.fractions["training"], self.fractions["validation"]) == 0:
            raise ValueError("fractions of training and validation must be above 0")
        return self

    @property
    def required(self) -> tuple[SplitName, ...]:
        """The splits that must not be empty."""
        return tuple(split for split in SPLITS if self.method != "random" or self.fractions[split] > 0)


class Validate(Closed):
    """Limits for the data; with an empty `labels`, any label may occur."""

    seconds: Range
    sample_rate_hz: Range
    labels: tuple[Annotated[str, Field(min_length=1)], ...]
    min_peak: Fraction
    max_clipped_fraction: Fraction
    max_quarantined_fraction: Fraction
    min_clips_per_label: Count
    max_drift: Fraction


class Spectrogram(Closed):
    """Settings of the front end `spectrogram`: the logarithm of each FFT bin's power."""

    floor: Floor
    normalisation: Normalisation


class LogMel(Closed):
    """Settings of the front end `log_mel`: the logarithm of each mel band's power."""

    bands: Annotated[int, Field(ge=4, le=256, strict=True)]
    lowest_hz: NotNegative
    highest_hz: Positive
    floor: Floor
    normalisation: Normalisation

    @model_validator(mode="after")
    def _check_order(self) -> "LogMel":
        if not self.lowest_hz < self.highest_hz:
            raise ValueError(f"lowest_hz {self.lowest_hz} must be below highest_hz {self.highest_hz}")
        return self


class Mfcc(Closed):
    """Settings of the front end `mfcc`: the first coefficients of the cosine transform of `log_mel`."""

    coefficients: Annotated[int, Field(ge=1, le=256, strict=True)]


class Features(Closed):
    """Windows and FFT, which all front ends share, and the settings of each front end."""

    window_ms: Positive
    stride_ms: Positive
    fft_length: Annotated[int, Field(ge=16, le=16_384, multiple_of=2, strict=True)]
    spectrogram: Spectrogram
    log_mel: LogMel
    mfcc: Mfcc

    @model_validator(mode="after")
    def _check_coefficients(self) -> "Features":
        if self.mfcc.coefficients > self.log_mel.bands:
            raise ValueError(
                f"mfcc.coefficients {self.mfcc.coefficients} must not be above log_mel.bands {self.log_mel.bands}"
            )
        return self


class Extract(Closed):
    """The folders or addresses of raw shards and features; parameters, since DVC reads both."""

    raw: Annotated[str, Field(min_length=1)]
    features: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _check_addresses(self) -> "Extract":
        for key in ("raw", "features"):
            scheme, colon, _ = getattr(self, key).partition(":")
            if colon and (scheme != "s3" or not getattr(self, key).startswith("s3://")):
                raise ValueError(f"{key} is {getattr(self, key)!r}; expected a folder or s3://bucket/prefix")
        return self


class Gate(Closed):
    """What a version must achieve to become champion; fractions, except for bytes and milliseconds."""

    min_accuracy: Fraction
    min_accuracy_at_10_db: Fraction
    max_label_drop: Fraction
    max_saved_bytes: Count
    max_latency_ms_p99: Positive
    equal_within: Fraction
    min_saving: Fraction


class Register(Closed):
    """The name of the registered model and its gate."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9 _.-]+$")]
    gate: Gate


class Export(Closed):
    """How much accuracy an exported model may lose."""

    max_accuracy_loss: Fraction


class Params(Closed):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)]
    dataset: Dataset
    split: Split
    validate_: Annotated[Validate, Field(alias="validate")]
    features: Features
    extract: Extract
    train: Train
    tune: Tune
    register_: Annotated[Register, Field(alias="register")]
    export: Export

    @model_validator(mode="after")
    def _check_sizes(self) -> "Params":
        window, stride, clip = self.window_samples, self.stride_samples, self.dataset.clip_samples
        if not stride <= window <= min(self.features.fft_length, clip):
            raise ValueError(
                f"features.window_ms gives {window} samples; expected at least those of stride_ms ({stride})"
                f" and at most fft_length ({self.features.fft_length}) and the clip ({clip})"
            )
        if self.features.log_mel.highest_hz > self.dataset.sample_rate_hz / 2:
            raise ValueError(
                f"features.log_mel.highest_hz {self.features.log_mel.highest_hz} must not be above"
                f" half of dataset.sample_rate_hz, {self.dataset.sample_rate_hz / 2}"
            )
        return self

    @model_validator(mode="after")
    def _check_labels_are_valid(self) -> "Params":
        valid = self.validate_.labels
        for key in ("labels", "unknown_labels"):
            invalid = [label for label in getattr(self.dataset, key) if valid and label not in valid]
            if invalid:
                raise ValueError(
                    f"dataset.{key} names {invalid[0]!r}, which is not in validate.labels;"
                    f" expected one of {', '.join(valid)}"
                )
        return self

    @model_validator(mode="after")
    def _check_tuning_ranges(self) -> "Params":
        check_tuning_ranges(self.train, self.tune)
        return self

    def with_candidate(self, name: str, settings: Candidate) -> "Params":
        """Return a copy in which the candidate `name` has these settings."""
        return self.model_copy(update={"train": self.train.with_candidate(name, settings)})

    @property
    def window_samples(self) -> int:
        """Samples in one window, a whole number."""
        return exact_samples(self.features.window_ms / 1000, self.dataset.sample_rate_hz, "features.window_ms")

    @property
    def stride_samples(self) -> int:
        """Samples from the start of one window to the start of the next, a whole number."""
        return exact_samples(self.features.stride_ms / 1000, self.dataset.sample_rate_hz, "features.stride_ms")


def exact_samples(seconds: float, sample_rate_hz: int, key: str) -> int:
    """Convert `seconds` to samples.

    Raises:
        ValueError: the result is not a whole number above 0; the text names `key`.
    """
    samples = seconds * sample_rate_hz
    if abs(samples - round(samples)) > 1e-6 or round(samples) < 1:
        raise ValueError(f"{key} gives {samples:g} samples at {sample_rate_hz} Hz; expected a whole number above 0")
    return round(samples)


def load(path: Path = PATH) -> Params:
    """Read and check a params.yaml.

    Raises:
        UserError: the file is missing, is not YAML, or has a wrong value; the text names the first wrong key, its
            value and what is expected.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not in {Path.cwd()}; run earmark in the root of the checkout") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    # A misspelt key gives two errors, unknown and missing; the unknown key is the one that was typed.
    first = min(error.errors(), key=lambda details: details["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"] if part not in ("span", "choice")) or "the file"
    message = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "extra_forbidden":
            return f"{key} is not a parameter; expected one of {', '.join(_sibling_keys(first['loc']))}"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return f"{key}: {message}" if first["loc"] else message
        case "string_type" if isinstance(first["input"], bool):
            return f"{key} is {first['input']!r}; expected text: put it in quotes"
        case "tuple_type":
            return f"{key} is {first['input']!r}; expected a list"
        case "model_type" | "dict_type":
            return f"{key} is {first['input']!r}; expected a mapping"
    return f"{key} is {first['input']!r}; {message[0].lower()}{message[1:]}"


def _sibling_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section that contains the key at `location`."""
    section: type[BaseModel] = Params
    for part in location[:-1]:
        fields = {field.alias or name: field.annotation for name, field in section.model_fields.items()}
        annotation = fields.get(str(part))
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
        else:
            section = {Train: Candidate, Tune: Choice if "choice" in location else Span}.get(section, section)
    return [field.alias or name for name, field in section.model_fields.items()]
