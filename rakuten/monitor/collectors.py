"""What Prometheus scrapes of requests, answers and batches: names, labels, buckets. The door is `rakuten.monitor.metrics`.

Labels take few values: routes, kinds and versions, never what a client chose.
"""

from typing import Final, Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rakuten.data.labels import Code
from rakuten.monitor.record import PredictionRecord

LATENCIES_S: Final = (.001, .0025, .005, .01, .02, .03, .05, .075, .1, .15, .25, .5, 1, 2.5, 5, 10)  # fmt: skip
LENGTHS_CHARS: Final = (0, 10, 20, 40, 60, 80, 120, 200, 350, 600, 1_000, 2_000, 4_000, 8_000, 16_000)
SHARES: Final = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CONFIDENCES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1)
PRODUCTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS: Final = (16, 64, 256, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536)


Mode = Literal["livesum", "livemax", "livemin", "livemostrecent"]


class MakeCounter(Protocol):
    def __call__(self, name: str, text: str, *labels: str) -> Counter: ...


class MakeHistogram(Protocol):
    def __call__(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram: ...


class MakeGauge(Protocol):
    def __call__(self, name: str, text: str, mode: Mode, *labels: str) -> Gauge: ...


def makers(registry: CollectorRegistry) -> tuple[MakeCounter, MakeHistogram, MakeGauge]:
    """Constructors of collectors of one registry, whose names begin with the project's."""

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(f"rakuten_{name}", text, labels, registry=registry)

    def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"rakuten_{name}", text, labels, buckets=buckets, registry=registry)

    def gauge(name: str, text: str, mode: Mode, *labels: str) -> Gauge:
        return Gauge(f"rakuten_{name}", text, labels, registry=registry, multiprocess_mode=mode)

    return counter, histogram, gauge


class RequestMetrics:
    """HTTP. `route` is the path's template, "other" where there is none: a client cannot make up labels."""

    def __init__(self, registry: CollectorRegistry):
        counter, histogram, gauge = makers(registry)
        self.total = counter("http_requests_total", "Requests answered.", "route", "method", "status")
        self.seconds = histogram("http_request_seconds", "First byte to answer.", LATENCIES_S, "route")
        self.errors = counter("errors_total", "Problems answered, items of a batch too.", "kind")
        self.in_flight = gauge("requests_in_flight", "Being answered, of all workers.", "livesum")
        self.rate_limited = counter("rate_limited_total", "Requests over the rate of their key.", "key_name")
        self.rejected = counter("rejected_total", "Requests over a limit of what one may be.", "limit")


class PredictionMetrics:
    """Answers, as `observe` counts them, and what came back about them."""

    def __init__(self, registry: CollectorRegistry):
        counter, histogram, _ = makers(registry)
        self.total = counter("predictions_total", "Answers by category.", "prdtypecode", "model_version")
        self.latency = histogram("prediction_latency_seconds", "Product read to answer.", LATENCIES_S)
        self.text_len = histogram("text_len_chars", "Title and description after cleaning.", LENGTHS_CHARS)
        self.phases = histogram(
            "phase_latency_seconds", "Of an answer: queue, decode, model.", LATENCIES_S, "phase"
        )
        self.confidence = histogram("confidence", "Calibrated confidence.", CONFIDENCES, "model_version")
        self.abstentions = counter(
            "abstentions_total", "Answers under the least confidence.", "model_version"
        )
        self.missing = counter(
            "missing_modality_total", "Products without text, description or image.", "modality"
        )
        self.images_failed = counter("images_failed_total", "Photos that cannot be decoded.")
        self.cache = counter("cache_requests_total", "Lookups of known answers: hit or miss.", "result")
        self.shadow = counter(
            "shadow_predictions_total", "What a challenger would have said.", "shadow_version", "agrees"
        )
        self.feedback = counter(
            "feedback_total",
            "What was said of answers: correct is yes, no or unknown.",
            "model_version",
            "correct",
        )

    def observe(self, record: PredictionRecord) -> None:
        """Count an answer."""
        version, seen = record.model_version, record.statistics
        self.total.labels(str(record.code), version).inc()
        self.confidence.labels(version).observe(record.confidence)
        self.text_len.observe(seen.title_chars + seen.description_chars)
        if record.abstained:
            self.abstentions.labels(version).inc()
        here = {"text": seen.has_text, "description": seen.has_description, "image": seen.has_image}
        for modality in [name for name, is_here in here.items() if not is_here]:
            self.missing.labels(modality).inc()
        if seen.image_failed:
            self.images_failed.inc()
        self.cache.labels("hit" if record.cached else "miss").inc()
        if record.total_ms is not None:
            self.latency.observe(record.total_ms / 1000)
        for phase, ms in (
            ("queue", record.queue_ms),
            ("decode", record.decode_ms),
            ("model", record.model_ms),
        ):
            if ms is not None:
                self.phases.labels(phase).observe(ms / 1000)
        if record.shadow_version is not None:
            agrees = "yes" if record.shadow_code == record.code else "no"
            self.shadow.labels(record.shadow_version, agrees).inc()

    def observe_feedback(self, code: Code, answered: tuple[str, Code] | None) -> None:
        """Count what somebody said. `answered`: model version and code of the prediction, None where nobody remembers."""
        if answered is None:
            self.feedback.labels("", "unknown").inc()
        else:
            version, said = answered
            self.feedback.labels(version, "yes" if str(said) == str(code) else "no").inc()


class BatchMetrics:
    """What the model gets at once."""

    def __init__(self, registry: CollectorRegistry):
        counter, histogram, gauge = makers(registry)
        self.products = histogram("batch_products", "Products of a batch.", PRODUCTS)
        self.tokens = histogram("batch_tokens", "Tokens of a batch, padding included.", TOKENS)
        self.padding = histogram("batch_padding_share", "Share of its tokens that are padding.", SHARES)
        self.tokens_total = counter("tokens_total", "Tokens through the model: text or padding.", "kind")
        self.queue = gauge("queue_products", "Waiting for a batch, of all workers.", "livesum")

    def observe(self, num_products: int, num_tokens: int, num_padded: int) -> None:
        """Count a batch: `num_tokens` are the products' own, `num_padded` rows times the longest."""
        self.products.observe(num_products)
        self.tokens.observe(num_padded)
        if num_padded:
            self.padding.observe(1 - num_tokens / num_padded)
        self.tokens_total.labels("text").inc(num_tokens)
        self.tokens_total.labels("padding").inc(num_padded - num_tokens)
