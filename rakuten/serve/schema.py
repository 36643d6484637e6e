"""What a request says and what an answer holds: the published schema."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Code = int | str
Confidence = Annotated[float, Field(ge=0, le=1)]


class _Request(BaseModel):
    # A misspelt field would be a product without it: told at once.
    model_config = ConfigDict(extra="forbid", strict=True)


class Item(_Request):
    """A product: any one of title, description and photo suffices."""

    designation: str | None = Field(None, description="Title", examples=["Piscine gonflable ronde 3 m"])
    description: str | None = Field(
        None, description="Longer text; markup is taken out", examples=["Diamètre 305 cm, hauteur 76 cm."]
    )
    image: str | None = Field(
        None, description="JPEG, PNG or WebP, in base64", json_schema_extra={"format": "byte"}
    )


class Batch(_Request):
    items: list[Item] = Field(description="Products", min_length=1)


class Feedback(_Request):
    """What a product truly is."""

    prediction_id: str = Field(pattern="^[0-9a-f]{32}$", description="From the answer")
    prdtypecode: Code = Field(description="The right category's code")


class Candidate(BaseModel):
    prdtypecode: Code
    name: str
    confidence: Confidence


class Contributions(BaseModel):
    """How much of the confidence text and photo each brought: exact Shapley values of a game of two."""

    text: float
    image: float


class Prediction(BaseModel):
    predicted_prdtypecode: Code
    name: str = Field(description="The category's name")
    confidence: Confidence = Field(description="Calibrated: of answers at 0.8, 80 % are right")
    abstained: bool = Field(description="Confidence below the service's threshold: let a person decide")
    top_k: list[Candidate]
    prediction_set: list[Candidate] = Field(
        description="The fewest categories that reach the service's coverage together"
    )
    contributions: Contributions | None = Field(None, description="With explain=true")
    model_version: str
    prediction_id: str = Field(description="For /feedback")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(description="What kind of problem, as a link to its description")
    title: str
    status: int
    detail: str = Field(description="What came, what was expected, how to mend it")
    instance: str | None = Field(None, description="The request's path")
    errors: list["Mistake"] | None = Field(None, description="Field by field")


class Mistake(BaseModel):
    field: str
    detail: str


class BatchResult(BaseModel):
    """Of each item, in order: its prediction, or its problem."""

    results: list[Prediction | Problem]


class FeedbackTaken(BaseModel):
    """It is in the log, or on its way there."""

    prediction_id: str
    prdtypecode: Code


class Health(BaseModel):
    status: Literal["ok"]
    model_version: str


class ModelFacts(BaseModel):
    """The champion: what it is, how good, for which categories."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str
    runtime: str
    loaded_at: str = Field(description="ISO 8601, UTC")
    labels: list["Label"]
    metrics: dict[str, object]
    lineage: dict[str, object]
    card: str = Field(description="The model card, Markdown")


class Label(BaseModel):
    prdtypecode: Code
    name: str
