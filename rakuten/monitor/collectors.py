"""What Prometheus scrapes of requests, answers and batches: names, labels, buckets. The door is `rakuten.monitor.metrics`.

Labels take few values: routes, kinds and versions, never what a client chose.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rakuten.data.labels import Code
from rakuten.monitor.record import PredictionRecord

LATENCIES_S: Final = (.001, .0025, .005, .01, .02, .03, .05, .075, .1, .15, .25, .5, 1, 2.5, 5, 10)  # fmt: skip
LENGTHS_CHARS: Final = (0, 10, 20, 40, 60, 80, 120, 200, 350, 600, 1_000, 2_000, 4_000, 8_000, 16_000)
SHARES: Final = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CONFIDENCES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1)
PRODUCTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS: Final = (16, 64, 256, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536)


class RequestMetrics:
    """HTTP. `route` is the path's template, "other" where there is none, so that a client cannot make up labels."""

    def __init__(self, registry: CollectorRegistry):
        self.total = Counter(
            "rakuten_http_requests_total",
            "Requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "rakuten_http_request_seconds",
            "From a request's first byte to its answer.",
            ["route"],
            buckets=LATENCIES_S,
            registry=registry,
        )
        self.errors = Counter(
            "rakuten_errors_total", "Problems answered, items of a batch too.", ["kind"], registry=registry
        )
        self.in_flight = Gauge(
            "rakuten_requests_in_flight",
            "Requests being answered, of all workers.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.rate_limited = Counter(
            "rakuten_rate_limited_total",
            "Requests over the rate of their API key.",
            ["key_name"],
            registry=registry,
        )
        self.rejected = Counter(
            "rakuten_rejected_total",
            "Requests over a limit of what one may be.",
            ["limit"],
            registry=registry,
        )


class PredictionMetrics:
    """Answers, as `observe` counts them, and what came back about them."""

    def __init__(self, registry: CollectorRegistry):
        self.total = Counter(
            "rakuten_predictions_total",
            "Answers by category.",
            ["prdtypecode", "model_version"],
            registry=registry,
        )
        self.latency = Histogram(
            "rakuten_prediction_latency_seconds",
            "From a product read to its answer.",
            buckets=LATENCIES_S,
            registry=registry,
        )
        self.text_len = Histogram(
            "rakuten_text_len_chars",
            "Title and description after cleaning.",
            buckets=LENGTHS_CHARS,
            registry=registry,
        )
        self.phases = Histogram(
            "rakuten_phase_latency_seconds",
            "Phases of an answer: queue, decode, model.",
            ["phase"],
            buckets=LATENCIES_S,
            registry=registry,
        )
        self.confidence = Histogram(
            "rakuten_confidence",
            "Calibrated confidence.",
            ["model_version"],
            buckets=CONFIDENCES,
            registry=registry,
        )
        self.abstentions = Counter(
            "rakuten_abstentions_total",
            "Answers under the least confidence.",
            ["model_version"],
            registry=registry,
        )
        self.missing = Counter(
            "rakuten_missing_modality_total",
            "Products without text, description or image.",
            ["modality"],
            registry=registry,
        )
        self.images_failed = Counter(
            "rakuten_images_failed_total", "Photos that cannot be decoded.", registry=registry
        )
        self.cache = Counter(
            "rakuten_cache_requests_total", "Lookups of the answers' cache.", ["result"], registry=registry
        )
        self.shadow = Counter(
            "rakuten_shadow_predictions_total",
            "What a challenger would have answered.",
            ["shadow_version", "agrees"],
            registry=registry,
        )
        self.feedback = Counter(
            "rakuten_feedback_total",
            "Corrections and confirmations: correct is yes, no or unknown.",
            ["model_version", "correct"],
            registry=registry,
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
        self.products = Histogram(
            "rakuten_batch_products", "Products of a batch.", buckets=PRODUCTS, registry=registry
        )
        self.tokens = Histogram(
            "rakuten_batch_tokens", "Tokens of a batch, padding included.", buckets=TOKENS, registry=registry
        )
        self.padding = Histogram(
            "rakuten_batch_padding_share",
            "Share of a batch's tokens that are padding.",
            buckets=SHARES,
            registry=registry,
        )
        self.tokens_total = Counter(
            "rakuten_tokens_total",
            "Tokens through the model: kind is text or padding.",
            ["kind"],
            registry=registry,
        )
        self.queue = Gauge(
            "rakuten_queue_products",
            "Products waiting for a batch, of all workers.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def observe(self, num_products: int, num_tokens: int, num_padded: int) -> None:
        """Count a batch: `num_tokens` are the products' own, `num_padded` rows times the longest."""
        self.products.observe(num_products)
        self.tokens.observe(num_padded)
        if num_padded:
            self.padding.observe(1 - num_tokens / num_padded)
        self.tokens_total.labels("text").inc(num_tokens)
        self.tokens_total.labels("padding").inc(num_padded - num_tokens)
