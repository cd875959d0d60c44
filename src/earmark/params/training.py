"""The sections `train` and `tune` of params.yaml."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationError, model_validator

from earmark.errors import UserError
from earmark.params.fields import Closed, Count, Fraction, NotNegative, Positive, Range


class Optimizer(Closed):
    """A Keras optimizer and its learning-rate schedule."""

    name: Literal["adadelta", "adamw", "sgd"]
    learning_rate: Positive
    weight_decay: NotNegative = 0.0
    warmup_fraction: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    decay: Literal["none", "cosine"] = "none"

    @model_validator(mode="after")
    def _check_schedule(self) -> "Optimizer":
        if self.warmup_fraction and self.decay == "none":
            raise ValueError(f"warmup_fraction {self.warmup_fraction} works only with decay cosine")
        return self


Milliseconds = Annotated[float, Field(ge=0, le=60_000, strict=True)]


class Decibels(Range):
    """An interval of power ratios in decibels, within what float32 can represent."""

    min: Annotated[float, Field(ge=-100, le=100, strict=True)]
    max: Annotated[float, Field(ge=-100, le=100, strict=True)]


class Augmentation(Closed):
    """Random changes to training clips; 0 switches a change off. Evaluation never augments."""

    shift_ms: Milliseconds = 0.0
    speed_percent: Annotated[float, Field(ge=0, le=50, strict=True)] = 0.0
    gain_db: Annotated[float, Field(ge=0, le=60, strict=True)] = 0.0
    noise_probability: Fraction = 0.0
    noise_snr_db: Decibels = Decibels(min=5.0, max=30.0)
    frequency_mask_bands: Annotated[int, Field(ge=0, strict=True)] = 0
    time_mask_ms: Milliseconds = 0.0
    mixup_alpha: NotNegative = 0.0


class Candidate(Closed):
    """How one candidate is trained; `network` holds the arguments of the candidate's `build`."""

    epochs: Count | None = None
    batch_size: Count
    optimizer: Optimizer
    label_smoothing: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    average_momentum: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    early_stopping_epochs: Annotated[int, Field(ge=0, strict=True)] = 0
    balanced_sampling: Annotated[bool, Field(strict=True)] = False
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    augmentation: Augmentation = Augmentation()
    network: Mapping[str, int | float | tuple[int, ...]] = {}


def _by_name(candidates: Mapping[str, Candidate]) -> Mapping[str, Candidate]:
    # The order in the file must change no result, because DVC does not see it.
    return dict(sorted(candidates.items()))


class Train(Closed):
    """The candidates that are trained, by name, and the epochs of those that do not set their own."""

    epochs: Count
    candidates: Annotated[Mapping[str, Candidate], Field(min_length=1), AfterValidator(_by_name)]

    def candidate(self, name: str) -> Candidate:
        """Settings of the candidate `name`, with `epochs` filled in.

        Raises:
            UserError: params.yaml has no such candidate.
        """
        if name not in self.candidates:
            names = ", ".join(self.candidates)
            raise UserError(f"params.yaml: train.candidates: {name!r} has no settings; expected one of {names}")
        settings = self.candidates[name]
        return settings.model_copy(update={"epochs": settings.epochs or self.epochs})

    def with_candidate(self, name: str, settings: Candidate) -> "Train":
        """Return a copy in which the candidate `name` has these settings."""
        return self.model_copy(update={"candidates": {**self.candidates, name: settings}})


Number = Annotated[int, Field(strict=True)] | Annotated[float, Field(allow_inf_nan=False, strict=True)]


class Span(Closed):
    """Numbers to draw from, uniformly or log-uniformly; whole numbers if both ends are whole."""

    min: Number
    max: Number
    log: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _check_order(self) -> "Span":
        if not self.min < self.max:
            raise ValueError(f"min {self.min} must be below max {self.max}")
        if self.log and self.min <= 0:
            raise ValueError(f"min {self.min} must be above 0 with log true")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.min, int) and isinstance(self.max, int)

    @property
    def examples(self) -> tuple[int | float, ...]:
        """Both ends."""
        return self.min, self.max

    def contains(self, value: object) -> bool:
        """Whether `value` can be drawn."""
        return isinstance(value, int if self.whole else int | float) and self.min <= value <= self.max


class Choice(Closed):
    """Values to choose from."""

    values: Annotated[tuple[Any, ...], Field(min_length=2)]

    @property
    def examples(self) -> tuple[Any, ...]:
        """All values."""
        return self.values

    def contains(self, value: object) -> bool:
        """Whether `value` can be chosen."""
        return value in self.values


def _kind(content: object) -> str:
    return "choice" if isinstance(content, Choice) or (isinstance(content, dict) and "values" in content) else "span"


Values = Annotated[Annotated[Span, Tag("span")] | Annotated[Choice, Tag("choice")], Discriminator(_kind)]


class Tune(Closed):
    """How many trials `earmark tune` makes, and candidate -> setting -> values to try."""

    trials: Count
    ranges: Mapping[str, Mapping[str, Values]]

    def fingerprint(self, candidate: str) -> str:
        """SHA-256 of the candidate's ranges, as hex digits."""
        content = {key: values.model_dump(mode="json") for key, values in self.ranges[candidate].items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def value_at(settings: Candidate, key: str) -> Any:
    """The value of a candidate's setting; `key` is a path such as optimizer.learning_rate.

    Raises:
        KeyError: there is no such setting.
    """
    value: Any = settings.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def with_values(settings: Candidate, values: Mapping[str, Any]) -> Candidate:
    """Return a copy of `settings` with new values; keys are paths such as optimizer.learning_rate.

    Raises:
        ValueError: a value is not allowed; the text names the first such key.
    """
    content = settings.model_dump(mode="json")
    for key, value in values.items():
        *sections, last = key.split(".")
        section = content
        for part in sections:
            section = section[part]
        section[last] = value
    try:
        return Candidate.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{key} cannot be {first['input']!r}: {first['msg'].lower()}") from None


def check_tuning_ranges(train: Train, tune: Tune) -> None:
    """Check that ranges in `tune` belong to settings and have only values that the settings allow.

    Ranges of a candidate that is not trained now are not checked: they wait until it is.

    Raises:
        ValueError: they do not; the text names the candidate and the key.
    """
    for name in sorted(tune.ranges.keys() & train.candidates.keys()):
        settings = train.candidate(name)
        for key, values in tune.ranges[name].items():
            try:
                value_at(settings, key)
                for value in values.examples:
                    if value is None:
                        raise ValueError(f"{key} cannot be empty")
                    with_values(settings, {key: value})
            except (KeyError, TypeError):
                raise ValueError(
                    f"tune.ranges.{name} names {key!r}, which train.candidates.{name} does not have"
                ) from None
            except ValueError as error:
                raise ValueError(f"tune.ranges.{name}: {error}") from None
