"""The schema of a catalogue: conf/data/."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rakuten.config.types import Count, Fraction, Name, NonNegativeInt, Probability, schema
from rakuten.data.labels import Code, LabelSet


@schema
class Columns:
    """The headers that a catalogue's CSV files use for the fields this project knows."""

    index: str  # the joining key of X and Y; "" is the unnamed first column of the challenge's files
    designation: str
    description: str
    productid: str
    imageid: str
    label: str


@schema
class Files:
    """Where a catalogue's files lie below `data.root`; of several names the first that exists is read."""

    x_train: list[str]
    y_train: list[str]
    x_test: list[str]
    images_train: str
    images_test: str
    image_name: str  # with {imageid} and {productid}

    @model_validator(mode="after")
    def _image_name_is_a_file_name(self) -> "Files":
        stem = self.image_name.replace("{imageid}", "").replace("{productid}", "")
        if "{" in stem or "/" in stem or stem == self.image_name:
            raise ValueError("must hold {imageid} or {productid}, no other braces and no slash")
        return self


@schema
class SplitConfig:
    """Held-out shares. Test and calib depend on `salt` and each product's id alone, val on the run's seed too."""

    test: Fraction
    calib: Fraction
    val: Fraction
    salt: int | str
    near_duplicate: Fraction  # Jaccard similarity of character shingles from which two texts count as one

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "SplitConfig":
        if self.test + self.calib + self.val >= 1:
            raise ValueError("test + calib + val must leave something to train on (sum < 1)")
        return self


@schema
class Limits:
    """What is refused before it is decoded."""

    image_bytes: Count
    image_pixels: Count
    text_chars: Count  # longer fields are cut at a word when they are cleaned, never in the raw table


@schema
class DemoConfig:
    """The generated catalogue (`rakuten.data.demo`)."""

    num_products: Annotated[int, Field(ge=100)]
    num_unlabelled: Count
    seed: NonNegativeInt
    image_px: Annotated[int, Field(ge=32, le=2000)]
    label_noise: Probability


@schema
class DataConfig:
    """A catalogue: where it lies, how its files and columns are called, what its codes mean, how it is split."""

    name: Name
    root: Path
    interim_dir: Path
    processed_dir: Path
    cache_dir: Path
    prepare: Literal["cache", "here", "never"]  # where features are built that are missing or stale
    encoding: str
    columns: Columns
    files: Files
    codes: Annotated[dict[Code, str], Field(min_length=2)]
    split: SplitConfig
    limits: Limits
    demo: DemoConfig | None

    @property
    def labels(self) -> LabelSet:
        return LabelSet.from_mapping(self.codes)
