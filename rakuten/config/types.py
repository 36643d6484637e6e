"""Ranges that many fields share, and the decorator that makes a schema class."""

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LayerDecay = Annotated[float, Field(gt=0, le=1)]  # learning rate factor per layer group, from the head down
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]

# Lax on purpose where YAML and the command line cannot tell "1e-3" from a string or 1 from 1.0;
# everything that is not the field's type after that is an error.
schema = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
