"""Bodies of requests -> products. What is wrong is said field by field, and never in the words of the request."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from rakuten.data.preprocess import Product
from rakuten.serve.form import read_form
from rakuten.serve.photos import PhotoError, check_photo
from rakuten.serve.problems import MALFORMED, UNSUPPORTED, ProblemError, invalid
from rakuten.serve.schema import Item
from rakuten.serve.settings import RequestLimits
from rakuten.serve.structure import StructureError, check_structure

JSON, FORM = "application/json", "multipart/form-data"
TRUE, FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no", "")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Asked:
    """One product, and whether its answer is to be explained."""

    product: Product
    explain: bool = False


async def read_product(request: Request, limits: RequestLimits) -> Asked:
    """The product of a JSON body or of a form.

    Raises:
        ProblemError: neither of both, malformed, or not a product within `limits`.
    """
    if media_type(request) == FORM:
        fields = await read_form(request.headers["content-type"], request.stream(), limits)
        texts = {name: _text(name, value) for name, value in fields.items() if name != "image"}
        explain = _yes_or_no(texts.pop("explain", ""))
        # A file field that was left empty is sent as a file of no bytes.
        return Asked(_product(texts, fields.get("image") or None, limits), explain)
    return Asked(product_of(await read_json(request, limits), limits))


async def read_items(request: Request, limits: RequestLimits) -> list[object]:
    """The items of a batch, none looked at yet.

    Raises:
        ProblemError: no JSON object with a list of 1 to `limits.items`.
    """
    body = await read_json(request, limits)
    if not isinstance(body, dict):
        raise invalid(("items", "an object with a list `items` is expected"))
    if strangers := [(name, "is no field of a batch; there is items") for name in body if name != "items"]:
        raise invalid(*strangers)
    items = body.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= limits.items:
        got = f"{len(items):,} items" if isinstance(items, list) else "no list"
        raise invalid(("items", f"a list of 1 to {limits.items} is expected, {got} came"), limit="items")
    return items


def product_of(item: object, limits: RequestLimits) -> Product:
    """
    Raises:
        ProblemError: it is no product within `limits`.
    """
    given = validated(Item, item)
    image = None if given.image is None else _from_base64(given.image, limits)
    return _product({"designation": given.designation, "description": given.description}, image, limits)


async def read_model(request: Request, model: type[M], limits: RequestLimits) -> M:
    """
    Raises:
        ProblemError: no JSON, or not of this model.
    """
    return validated(model, await read_json(request, limits))


async def read_json(request: Request, limits: RequestLimits) -> object:
    """What a JSON body (RFC 8259) holds; of a key that comes twice, the last.

    Raises:
        ProblemError: another type; not UTF-8, no JSON, NaN and the like; a structure that no request has.
    """
    if media_type(request) != JSON:
        taken = f"{JSON} or {FORM}" if request.url.path.endswith("/predict") else JSON
        raise ProblemError(UNSUPPORTED, f"{taken} is expected")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    try:
        check_structure(body, items=limits.items, depth=limits.json_depth, string_chars=limits.text_chars)
    except StructureError as error:
        raise invalid(("body", str(error)), limit="json") from error
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:  # its message has the place, and nothing of the text
        raise ProblemError(MALFORMED, f"the body is no JSON: {error}") from None


def validated(model: type[M], value: object) -> M:
    """
    Raises:
        ProblemError: the value does not fit.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)
        raise invalid(*((".".join(map(str, each["loc"])) or "body", _words(each)) for each in told)) from None


def _words(mistake: ErrorDetails) -> str:
    # pydantic's would name our class.
    return "an object is expected" if mistake["type"] == "model_type" else mistake["msg"]


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _product(texts: dict[str, Any], image: bytes | None, limits: RequestLimits) -> Product:
    """With what is blank left out, since nothing can be said of it."""
    too_long = [
        (name, f"{len(text):,} characters; at most {limits.text_chars:,} are taken")
        for name, text in texts.items()
        if text is not None and len(text) > limits.text_chars
    ]
    if too_long:
        raise invalid(*too_long, limit="text_chars")
    product = Product(texts.get("designation"), texts.get("description"), image)
    if image is not None:
        try:
            check_photo(image, limits)
        except PhotoError as error:
            raise invalid(("image", str(error)), limit="image") from error
    elif not any(text and text.strip() for text in texts.values()):
        raise invalid(("designation", "a title, a description or a photo is needed"))
    return product


def _from_base64(text: str, limits: RequestLimits) -> bytes | None:
    if len(text) > 4 * (limits.image_bytes // 3 + 1):
        raise invalid(("image", f"more than {limits.image_bytes:,} bytes"), limit="image")
    try:
        return base64.b64decode(text, validate=True) or None
    except (binascii.Error, ValueError) as error:
        raise invalid(("image", "no base64 (RFC 4648, with padding and without line breaks)")) from error


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid((name, "is not in UTF-8")) from None


def _yes_or_no(text: str) -> bool:
    if (word := text.strip().lower()) not in (*TRUE, *FALSE):
        raise invalid(("explain", "true or false is expected"))
    return word in TRUE
