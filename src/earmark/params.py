"""params.yaml as typed, frozen, closed values: read once, checked whole, refused in one sentence."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from earmark.errors import UserError

SPLITS = ("training", "validation", "testing")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Floor = Annotated[float, Field(ge=1e-10, le=1.0, strict=True)]
Normalisation = Literal["none", "full_scale"]
Padding = Literal["silence", "repeat", "reflect"]


class Closed(BaseModel):
    """A section of params.yaml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(Closed):
    """A closed interval."""

    min: float
    max: float

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.min <= self.max:
            raise ValueError(f"min {self.min} must not be above max {self.max}")
        return self


class Dataset(Closed):
    """Where recordings come from and what a clip is."""

    source: Annotated[str, Field(min_length=1)]
    inbox: str
    speakers: Annotated[int, Field(ge=6, le=1000, strict=True)]
    labels: tuple[Annotated[str, Field(min_length=1)], ...]
    sample_rate_hz: Annotated[int, Field(ge=1000, le=384_000, strict=True)]
    clip_seconds: Annotated[float, Field(gt=0, le=60, strict=True)]
    padding: Padding

    @model_validator(mode="after")
    def _labels(self) -> "Dataset":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels names a label twice")
        if len(self.labels) == 1:
            raise ValueError(f"labels holds one label only, {self.labels[0]!r}; allowed are none (all) or at least two")
        return self

    @property
    def clip_samples(self) -> int:
        """Samples of one clip; `clip_seconds` x `sample_rate_hz`, exact."""
        return exact_samples(self.clip_seconds, self.sample_rate_hz, "dataset.clip_seconds")


class Split(Closed):
    """How clips are divided into training, validation and testing."""

    method: Literal["speaker", "random", "lists"]
    fractions: Mapping[Literal["training", "validation", "testing"], Fraction]

    @model_validator(mode="after")
    def _whole(self) -> "Split":
        if set(self.fractions) != set(SPLITS) or abs(sum(self.fractions.values()) - 1) > 1e-9:
            raise ValueError("fractions must give training, validation and testing, which add up to 1")
        if min(self.fractions["training"], self.fractions["validation"]) == 0:
            raise ValueError("fractions must give training and validation more than 0")
        return self

    @property
    def expected(self) -> tuple[str, ...]:
        """The splits that must not be empty."""
        return tuple(s for s in SPLITS if self.method != "random" or self.fractions[s] > 0)


class Validate(Closed):
    """Limits of sound data; no `labels` at all: any label may occur."""

    seconds: Range
    sample_rate_hz: Range
    labels: tuple[Annotated[str, Field(min_length=1)], ...]
    min_peak: Fraction
    max_clipped_fraction: Fraction
    max_quarantined_fraction: Fraction
    min_clips_per_label: Count
    max_drift: Fraction


class Spectrogram(Closed):
    """The logarithm of every FFT bin's power."""

    floor: Floor
    normalisation: Normalisation


class LogMel(Closed):
    """The logarithm of mel bands' power."""

    bands: Annotated[int, Field(ge=4, le=256, strict=True)]
    lowest_hz: NotNegative
    highest_hz: Positive
    floor: Floor
    normalisation: Normalisation

    @model_validator(mode="after")
    def _ordered(self) -> "LogMel":
        if not self.lowest_hz < self.highest_hz:
            raise ValueError(f"lowest_hz {self.lowest_hz} must be below highest_hz {self.highest_hz}")
        return self


class Mfcc(Closed):
    """The first coefficients of the cosine transform of log_mel."""

    coefficients: Annotated[int, Field(ge=1, le=256, strict=True)]


class Features(Closed):
    """The front ends: short-time power spectra and what is made of them."""

    window_ms: Positive
    stride_ms: Positive
    fft_length: Annotated[int, Field(ge=16, le=16_384, multiple_of=2, strict=True)]
    spectrogram: Spectrogram
    log_mel: LogMel
    mfcc: Mfcc

    @model_validator(mode="after")
    def _coefficients(self) -> "Features":
        if self.mfcc.coefficients > self.log_mel.bands:
            raise ValueError(
                f"mfcc.coefficients {self.mfcc.coefficients} must not be above log_mel.bands, {self.log_mel.bands}"
            )
        return self


class Extract(Closed):
    """Where features are computed, and between which folders or addresses."""

    scheduler: str
    raw: Annotated[str, Field(min_length=1)]
    features: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _places(self) -> "Extract":
        if self.scheduler and not re.fullmatch(r"[a-z]+://\S+", self.scheduler):
            raise ValueError(f'scheduler is {self.scheduler!r}; allowed are tcp://host:port and "", for this machine')
        for key in ("raw", "features"):
            scheme, colon, _ = getattr(self, key).partition(":")
            if colon and (scheme != "s3" or not getattr(self, key).startswith("s3://")):
                raise ValueError(f"{key} is {getattr(self, key)!r}; allowed are a folder and s3://bucket/prefix")
        return self


class Optimizer(Closed):
    """An optimiser of Keras and its learning-rate schedule."""

    name: Literal["adadelta", "adamw", "sgd"]
    learning_rate: Positive
    weight_decay: NotNegative = 0.0
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    decay: Literal["none", "cosine"] = "none"


class Augmentation(Closed):
    """What happens to training clips only; zero switches a part off."""

    shift_ms: NotNegative = 0.0
    speed_percent: Annotated[float, Field(ge=0, le=50, strict=True)] = 0.0
    gain_db: NotNegative = 0.0
    noise_probability: Fraction = 0.0
    noise_snr_db: Range = Range(min=5.0, max=30.0)
    frequency_mask_bands: Annotated[int, Field(ge=0, strict=True)] = 0
    time_mask_ms: NotNegative = 0.0
    mixup_alpha: NotNegative = 0.0


class Candidate(Closed):
    """How one candidate is trained; `network` is passed to its `build`."""

    epochs: Count | None = None
    batch_size: Count
    optimizer: Optimizer
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    early_stopping_epochs: Annotated[int, Field(ge=0, strict=True)] = 0
    balanced_sampling: bool = False
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    augmentation: Augmentation = Augmentation()
    network: Mapping[str, int | float | tuple[int, ...]] = {}


class Train(BaseModel):
    """Which candidates run; every other key of the section is a candidate's settings."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Candidate]

    candidates: Annotated[tuple[str, ...], Field(min_length=1)]
    epochs: Count

    @model_validator(mode="after")
    def _known(self) -> "Train":
        known = sorted(self.__pydantic_extra__)
        for name in self.candidates:
            if name not in known:
                raise ValueError(f"candidates names {name!r}, which has no settings; allowed are {', '.join(known)}")
        if len(set(self.candidates)) != len(self.candidates):
            raise ValueError("candidates names a candidate twice")
        return self

    def candidate(self, name: str) -> Candidate:
        """Settings of the candidate `name`, its `epochs` filled in; UserError where it has none."""
        if name not in self.__pydantic_extra__:
            known = ", ".join(sorted(self.__pydantic_extra__))
            raise UserError(f"params.yaml: train has no candidate {name!r}; allowed are {known}")
        settings = self.__pydantic_extra__[name]
        return settings.model_copy(update={"epochs": settings.epochs or self.epochs})


class Register(Closed):
    """The registered model."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9 _.-]+$")]


class Params(Closed):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)]
    dataset: Dataset
    split: Split
    validate_: Annotated[Validate, Field(alias="validate")]
    features: Features
    extract: Extract
    train: Train
    register_: Annotated[Register, Field(alias="register")]

    @model_validator(mode="after")
    def _sizes(self) -> "Params":
        self.window_samples, self.stride_samples, self.dataset.clip_samples  # noqa: B018  # raise where not exact
        if not self.stride_samples <= self.window_samples <= min(self.features.fft_length, self.dataset.clip_samples):
            raise ValueError(
                f"features.window_ms of {self.window_samples} samples must lie between stride_ms"
                f" ({self.stride_samples}) and both fft_length ({self.features.fft_length})"
                f" and the clip ({self.dataset.clip_samples})"
            )
        if self.features.log_mel.highest_hz > self.dataset.sample_rate_hz / 2:
            raise ValueError(
                f"features.log_mel.highest_hz {self.features.log_mel.highest_hz} must not be above"
                f" half of dataset.sample_rate_hz, {self.dataset.sample_rate_hz / 2}"
            )
        return self

    @model_validator(mode="after")
    def _labels(self) -> "Params":
        allowed = self.validate_.labels
        refused = [label for label in self.dataset.labels if allowed and label not in allowed]
        if refused:
            raise ValueError(
                f"dataset.labels names {refused[0]!r}, which validate.labels does not allow;"
                f" allowed are {', '.join(allowed)}"
            )
        return self

    @property
    def window_samples(self) -> int:
        """Samples of one window."""
        return exact_samples(self.features.window_ms / 1000, self.dataset.sample_rate_hz, "features.window_ms")

    @property
    def stride_samples(self) -> int:
        """Samples from one window to the next."""
        return exact_samples(self.features.stride_ms / 1000, self.dataset.sample_rate_hz, "features.stride_ms")


def exact_samples(seconds: float, sample_rate_hz: int, key: str) -> int:
    """`seconds` as a whole number of samples; ValueError naming `key` where it is none."""
    samples = seconds * sample_rate_hz
    if abs(samples - round(samples)) > 1e-6 or round(samples) < 1:
        raise ValueError(f"{key} gives {samples:g} samples at {sample_rate_hz} Hz; allowed is a whole number above 0")
    return round(samples)


def load(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks `path`; UserError names the first wrong key, its value and what is allowed."""
    try:
        # As DVC reads and writes it: YAML 1.2, in which the label no is text.
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not in {Path.cwd()}; run earmark in the root of its checkout") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    # A misspelt key is both unknown and missing: the unknown one is what was typed.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    message = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "extra_forbidden":
            return f"{key} is no parameter; allowed are {', '.join(_keys_beside(first['loc']))}"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return f"{key}: {message}" if first["loc"] else message
        case "string_type" if isinstance(first["input"], bool):
            return f"{key} is {first['input']!r}; allowed is text: put it in quotes"
        case "tuple_type":
            return f"{key} is {first['input']!r}; allowed is a list"
        case "model_type":
            return f"{key} is {first['input']!r}; allowed is a mapping"
    return f"{key} is {first['input']!r}; {message[0].lower()}{message[1:]}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section that the key at `location` stands in."""
    section: type[BaseModel] = Params
    for part in location[:-1]:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        section = fields[part].annotation if part in fields else Candidate
    return [field.alias or name for name, field in section.model_fields.items()]
