"""The tables of the inference log. Their columns are the record's fields, so that neither can be without the other."""

import typing
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from rakuten.data.labels import Code
from rakuten.data.language import Language
from rakuten.data.statistics import InputStatistics
from rakuten.monitor.record import Floats, PredictionRecord

SCHEMA: Final = 1  # raise it when a column comes, goes or changes meaning
CONTENTS: Final = (
    "designation",
    "description",
    "image",
)  # what a customer sent; a table and a retention of its own
ARRAYS: Final = ("probs", "text_embedding", "image_embedding")
_TYPES: Final[dict[Any, Any]] = {
    bool: Boolean(),
    int: Integer(),
    float: Double(),
    str: Text(),
    bytes: LargeBinary(),
    Code: Text(),  # as written in a file: 10 is "10", see LabelSet.parse
    Floats: LargeBinary(),  # little-endian: probs float32, embeddings float16
    Language: String(8),
}

SCALARS: Final = tuple(
    field.name
    for field in fields(PredictionRecord)
    if field.name not in (*CONTENTS, *ARRAYS, "statistics", "prediction_id")
)
STATISTICS: Final = tuple(field.name for field in fields(InputStatistics))


def _column(owner: type, name: str) -> "Column[Any]":
    kind = typing.get_type_hints(owner)[name]
    bare = [each for each in typing.get_args(kind) if each is not type(None)]
    if type(None) not in typing.get_args(kind):
        return Column(name, _TYPES[kind], nullable=False)
    return Column(name, _TYPES[bare[0] if len(bare) == 1 else Code], nullable=True)


METADATA: Final = MetaData()

VERSION: Final = Table("rakuten_log_schema", METADATA, Column("version", Integer, primary_key=True))

PREDICTIONS: Final = Table(
    "rakuten_predictions",
    METADATA,
    Column("prediction_id", String(64), primary_key=True),
    *(_column(PredictionRecord, name) for name in SCALARS),
    *(_column(InputStatistics, name) for name in STATISTICS),
    *(_column(PredictionRecord, name) for name in ARRAYS),
    Index("rakuten_predictions_at", "at", "prediction_id"),
)

PRODUCTS: Final = Table(
    "rakuten_products",
    METADATA,
    Column("prediction_id", String(64), primary_key=True),
    Column("at", Double, nullable=False, index=True),
    *(_column(PredictionRecord, name) for name in CONTENTS),
)

FEEDBACK: Final = Table(
    "rakuten_feedback",
    METADATA,
    Column("prediction_id", String(64), primary_key=True),  # of a row that may come later, or never
    Column("code", Text, nullable=False),
    Column("at", Double, nullable=False, index=True),
    Column("key_name", Text),
)

DECISIONS: Final = Table(
    "rakuten_decisions",
    METADATA,
    Column("decision_id", String(32), primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("model_version", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("severity", String(32), nullable=False),
    Column("body", Text, nullable=False),  # JSON
)

FINDINGS: Final = Table(
    "rakuten_findings",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("at", Double, nullable=False),
    Column("body", Text, nullable=False),  # JSON
)
