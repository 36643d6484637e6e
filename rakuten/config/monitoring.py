"""The schema of what watches the champion: conf/drift.yaml."""

from typing import Annotated

from pydantic import Field, model_validator

from rakuten.config.types import Count, Fraction, Positive, Seed, schema


@schema
class EffectConfig:
    """The least change that matters, whatever its significance: no window is so large that a trifle alarms."""

    cohens_w: Positive  # of classes, languages and missing modalities (Cohen, 1988: 0.1 small, 0.3 medium, 0.5 large)
    ks_distance: Fraction  # of numbers: largest distance between two cumulative shares
    kernel_distance: (
        Positive  # of embeddings: distance of the means in standard deviations of the kernel's space
    )


@schema
class DriftConfig:
    """How a window of answers is compared with the reference, and when that is called drift."""

    window_alpha: Annotated[
        float, Field(gt=0, le=0.5)
    ]  # chance that a window without drift warns, all tests together
    alarm_alpha: Annotated[
        float, Field(gt=0, le=0.5)
    ]  # chance that one decision without drift alarms, all scales together
    scales: Annotated[
        tuple[Count, ...], Field(min_length=1)
    ]  # windows looked at together: the last one, the last seven
    weights: dict[
        str, Positive
    ]  # of a column's test in the correction for many tests; 1 where it is not named
    min_products: Annotated[int, Field(ge=2)]  # of a test, on either side; below it says "not enough data"
    max_draws: Annotated[int, Field(ge=1000)]  # most random permutations of a test
    exceedances: Annotated[int, Field(ge=10)]  # a test stops drawing after so many draws beyond the observed
    max_embeddings: Annotated[
        int, Field(ge=50)
    ]  # products of either side in an embedding's test, drawn by `seed`
    effects: EffectConfig
    interval: Annotated[float, Field(gt=0.5, lt=1)]  # level of all intervals
    num_resamples: Annotated[int, Field(ge=50)]  # of the intervals' bootstrap
    num_examples: Count  # products named for each change
    seed: Seed

    @model_validator(mode="after")
    def _alarms_are_rarer_than_warnings(self) -> "DriftConfig":
        if self.alarm_alpha > self.window_alpha:
            raise ValueError("alarm_alpha must not exceed window_alpha: an alarm is the rarer of the two")
        return self
