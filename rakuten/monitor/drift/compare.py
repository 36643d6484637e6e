"""A window against the reference: every column tested, corrected for many tests, told in words."""

from rakuten.config.monitoring import DriftConfig
from rakuten.model.reference import Observations, Reference
from rakuten.monitor.drift.report import DriftReport


def compare(reference: Reference, window: Observations, config: DriftConfig) -> DriftReport:
    """The report of `window`; the same arguments give the same report, whatever ran before."""
    raise NotImplementedError
