"""Number types and base classes for the sections of params.yaml."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]


class Closed(BaseModel):
    """A section of params.yaml: frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(Closed):
    """An interval that includes both ends."""

    min: Annotated[float, Field(allow_inf_nan=False, strict=True)]
    max: Annotated[float, Field(allow_inf_nan=False, strict=True)]

    @model_validator(mode="after")
    def _check_order(self) -> "Range":
        if not self.min <= self.max:
            raise ValueError(f"min {self.min} must not be above max {self.max}")
        return self
