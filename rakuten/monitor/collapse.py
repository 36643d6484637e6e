"""Does the model answer one class whatever it is asked? Told within a window of answers, and named collapse, not drift.

Rule: of the last `window` answers one class has at least `MIN_SHARE`, and so many that, were the answers drawn as the
reference says, a window would hold as many of any class with a chance of at most `LEVEL` (exact binomial tail of the
class's reference share, times the number of classes: Bonferroni). The chance of a false alarm in N answers is then at
most N * LEVEL: one in a thousand per million answers, however the windows overlap.

The bound holds for answers that are independent. A shop that sends fifty books in a row looks the same from here: what
tells the two apart is the bundle's canary set, which a collapsed model fails. Answers from a cache are no evidence;
leave them out.
"""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import comb, log2
from typing import Final

from rakuten.data.labels import Code

WINDOW: Final = 50
MIN_ANSWERS: Final = 12  # before which nothing is said
MIN_SHARE: Final = 0.8
LEVEL: Final = 1e-9
LEAST_SHARE: Final = 1e-3  # of a class that the reference hardly saw


@dataclass(frozen=True)
class Collapse:
    """The last answers in figures."""

    num_answers: int
    top_code: Code | None
    top_share: float  # 0 without answers
    entropy_bits: float  # of the answers' distribution; at most log2 of the number of classes
    p_value: float  # chance of as many of one class in such a window, as the reference says; at most 1
    collapsed: bool


class CollapseDetector:
    """The last answers of one process and one model. Some microseconds an answer.

    Args:
        shares: of each class among the model's own answers to held-out products.
        window: answers that count. With W workers behind one port give max(MIN_ANSWERS, WINDOW // W), and all of them
            together alarm within WINDOW.
    """

    def __init__(self, shares: Mapping[Code, float], window: int = WINDOW):
        assert shares
        assert window >= MIN_ANSWERS
        self._shares = {code: max(share, LEAST_SHARE) for code, share in shares.items()}
        self._last: deque[Code] = deque(maxlen=window)
        self._counts: dict[Code, int] = {}
        self._lock = threading.Lock()

    def observe(self, code: Code) -> Collapse:
        """Count an answer that the model gave, not one from a cache; what the last ones look like. From any thread."""
        with self._lock:
            if len(self._last) == self._last.maxlen:
                oldest = self._last[0]
                self._counts[oldest] -= 1
                if not self._counts[oldest]:
                    del self._counts[oldest]
            self._last.append(code)
            self._counts[code] = self._counts.get(code, 0) + 1
            return collapse_of(self._counts, self._shares)


def collapse_of(counts: Mapping[Code, int], shares: Mapping[Code, float]) -> Collapse:
    """The rule, for any window: number of answers by class, reference share by class."""
    num = sum(counts.values())
    if not num:
        return Collapse(0, None, 0.0, 0.0, 1.0, False)
    top, count = max(counts.items(), key=lambda each: each[1])
    entropy = -sum(each / num * log2(each / num) for each in counts.values() if each)
    p_value = 1.0
    if num >= MIN_ANSWERS and count >= MIN_SHARE * num:
        share = min(max(shares.get(top, 0.0), LEAST_SHARE), 1.0)
        p_value = min(1.0, len(shares) * _tail(num, count, share))
    return Collapse(num, top, count / num, max(0.0, entropy), p_value, p_value <= LEVEL)


def _tail(num: int, count: int, share: float) -> float:
    """P(Binomial(num, share) >= count)."""
    return sum(comb(num, k) * share**k * (1 - share) ** (num - k) for k in range(count, num + 1))
