"""The report's figures, as PNG bytes: one style, safe for colour-blind eyes, 2 to 60 classes, any names.

Figures are made without pyplot, so that nothing global is left behind and threads do not meet.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rakuten.data.labels import LabelSet
from rakuten.experiment.metrics import NUM_BINS, Floats, Interval, Ints
from rakuten.experiment.tables import CalibrationBins, ClassRow

INK, MUTED, GRID = "#1d2733", "#5b6776", "#e3e7ec"
BLUE, VERMILION, SKY = "#0072b2", "#d55e00", "#a9d3ec"  # Okabe & Ito 2008, and a tint of their blue
DPI = 120
NAME_CHARS = 30  # longer names are cut in figures; tables show them whole
FONT = "DejaVu Sans"  # matplotlib brings it along: the same picture on every machine
STYLE: dict[Any, Any] = {
    "font.family": FONT,
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold two dollar signs
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "legend.frameon": False,
    "figure.constrained_layout.w_pad": 0.1,  # inches
    "figure.constrained_layout.h_pad": 0.1,
}


def confusion_png(matrix: Ints, labels: LabelSet) -> bytes:
    """Where each class's rows went: shade is the share of the true class, numbers are rows.

    The diagonal and the cells that hold a notable share of their class are numbered; the rest would be noise.
    """
    num_classes = len(labels)
    support = matrix.sum(axis=1)
    shares = matrix / np.maximum(support, 1)[:, None]
    side_in = float(np.clip(0.27 * num_classes, 2.6, 15))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(side_in + 3.4, side_in + 2.4), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        names = [_name(labels, i) for i in range(num_classes)]
        axes.set_yticks(range(num_classes), [f"{n}  ({s:,})" for n, s in zip(names, support, strict=True)])
        axes.set_xticks(range(num_classes), names, rotation=90)
        axes.tick_params(length=0, labelsize=8.5 if num_classes <= 40 else 7.5)
        axes.set(xlabel="predicted class", ylabel="true class (rows)")
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(num_classes + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(num_classes + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=GRID, linewidth=0.6)
        axes.tick_params(which="minor", length=0)
        _number_cells(axes, matrix, shares)
        bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3 / side_in), aspect=14, pad=0.02)
        bar.set_label("share of the true class")
        bar.outline.set_visible(False)
        return _png(figure)


def reliability_png(bins: CalibrationBins, ece: float | None) -> bytes:
    """How often the model is right at each confidence, and how many rows have that confidence."""
    edges = np.arange(NUM_BINS) / NUM_BINS
    filled = bins.counts > 0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 6.2), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.bar(edges, bins.accuracy, 1 / NUM_BINS, align="edge", color=SKY, edgecolor="white")
        top.plot(
            [0, 1], [0, 1], color=MUTED, linestyle=(0, (4, 3)), linewidth=1, label="perfectly calibrated"
        )
        low, high = _wilson(bins.accuracy[filled], bins.counts[filled])
        spread = np.maximum([bins.accuracy[filled] - low, high - bins.accuracy[filled]], 0)
        top.errorbar(
            bins.confidence[filled],
            bins.accuracy[filled],
            spread,
            fmt="o",
            color=BLUE,
            markersize=4.5,
            capsize=2,
            linewidth=1.1,
            label="measured, with 95 % interval",
        )
        top.set(ylabel="share of rows that are right", xlim=(0, 1), ylim=(0, 1.02))
        top.set_title("" if ece is None else f"expected calibration error {ece:.3f}")
        top.grid(axis="y")
        top.legend(loc="upper left", fontsize=9)
        bottom.bar(edges, bins.counts, 1 / NUM_BINS, align="edge", color=BLUE, edgecolor="white")
        bottom.set(xlabel="confidence of the predicted class", ylabel="rows")
        bottom.yaxis.set_major_formatter("{x:,.0f}")
        bottom.grid(axis="y")
        return _png(figure)


def per_class_png(rows: Sequence[ClassRow], labels: LabelSet, macro_f1: float | None) -> bytes:
    """F1 of each class, best first, beside its number of rows; classes that occur nowhere come last."""
    order = sorted(range(len(rows)), key=lambda i: -1.0 if (f1 := rows[i]["f1"]) is None else f1)
    f1 = np.array([rows[i]["f1"] or 0.0 for i in order])
    support = np.array([rows[i]["support"] for i in order])
    places = np.arange(len(order))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 1.3 + 0.25 * len(order)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
        left.barh(places, f1, 0.72, color=BLUE)
        for place, i in zip(places, order, strict=True):
            value = rows[i]["f1"]
            inside = value is not None and value > 0.08  # else the bar is too short for its number
            left.text(
                0.01 if inside else (value or 0) + 0.01,
                place,
                "no rows" if value is None else f"{value:.2f}",
                va="center",
                fontsize=8.5,
                color="white" if inside else MUTED,
            )
        if macro_f1 is not None:
            left.axvline(macro_f1, color=VERMILION, linewidth=1.3, linestyle=(0, (4, 3)))
            left.set_title(f"F1, dashed: macro average {macro_f1:.3f}")
        left.set_yticks(places, [_name(labels, i) for i in order], fontsize=8.5)
        left.set(xlim=(0, 1), ylim=(-0.6, len(order) - 0.4))
        left.set_xticks(np.arange(0, 1.01, 0.2))
        left.grid(axis="x")
        right.barh(places, support, 0.72, color=SKY)
        right.set_title("rows")
        right.set_xlim(0, max(1, support.max(initial=1)) * 1.35)
        right.set_xticks([])
        right.spines["bottom"].set_visible(False)
        for place, count in zip(places, support, strict=True):
            right.text(count, place, f" {count:,}", va="center", fontsize=8.5, color=MUTED)
        return _png(figure)


def modalities_png(
    scores: Mapping[str, Mapping[str, float | None]],
    intervals: Mapping[str, Mapping[str, Interval]],
    limits: Mapping[str, float],
    names: Mapping[str, str],
) -> bytes:
    """Accuracy and F1 of each modality with intervals; a tick marks the best accuracy that can be reached.

    All maps are keyed by modality, `scores` and `intervals` further by metric.
    """
    keys = list(scores)
    places = np.arange(len(keys))[::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 1.3 + 0.5 * len(keys) + (0.25 if limits else 0)), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        for axes, metric in zip(panels, ("accuracy", "weighted_f1", "macro_f1"), strict=True):
            axes.set_title(metric.replace("_f1", " F1").capitalize().replace("f1", "F1"))
            for place, key in zip(places, keys, strict=True):
                _modality_bar(axes, place, scores[key][metric], intervals[key].get(metric))
            axes.set(xlim=(0, 1.0), ylim=(-0.6, len(keys) - 0.4))
            axes.set_xticks([0, 0.5, 1])
            axes.grid(axis="x")
        ticks = [(limits[key], place) for key, place in zip(keys, places, strict=True) if key in limits]
        if ticks:
            at, of = zip(*ticks, strict=True)
            panels[0].vlines(
                at,
                np.array(of) - 0.42,
                np.array(of) + 0.42,
                VERMILION,
                linewidth=2.4,
                label="best possible accuracy",
            )
            figure.legend(loc="outside lower left", fontsize=9)
        panels[0].set_yticks(places, [names[key] for key in keys], fontsize=10)
        return _png(figure)


def _modality_bar(axes: Axes, place: int, value: float | None, interval: Interval | None) -> None:
    if value is None:
        axes.text(0.02, place, "no rows", va="center", fontsize=9, color=MUTED)
        return
    axes.barh(place, value, 0.6, color=SKY)
    if interval is not None:
        axes.hlines(place, *interval, color=BLUE, linewidth=2.2)
        axes.vlines(interval, place - 0.1, place + 0.1, color=BLUE, linewidth=1.4)
    axes.text(0.02, place, f"{value:.3f}", va="center", fontsize=9.5, fontweight="bold")


def _number_cells(axes: Axes, matrix: Ints, shares: Floats) -> None:
    """Write counts where they can be read: the diagonal, and confusions above a share that grows with C."""
    notable = 0.04 if len(matrix) <= 40 else 0.08
    size = 7.5 if len(matrix) <= 40 else 6
    for true, predicted in zip(*np.nonzero(matrix), strict=True):
        share = shares[true, predicted]
        if true == predicted or share >= notable or len(matrix) <= 8:
            color = "white" if share > 0.55 else INK
            count = matrix[true, predicted]
            text = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
            axes.text(predicted, true, text, ha="center", va="center", fontsize=size, color=color)


def _wilson(share: Floats, counts: Ints, z: float = 1.96) -> tuple[Floats, Floats]:
    """Interval of a share (Wilson 1927): stays within 0..1 and holds for few rows, unlike the normal one."""
    center = (share + z**2 / (2 * counts)) / (1 + z**2 / counts)
    half = z * np.sqrt(share * (1 - share) / counts + z**2 / (4 * counts**2)) / (1 + z**2 / counts)
    return center - half, center + half


def _name(labels: LabelSet, index: int) -> str:
    """The class's name, cut to fit; its code where the font cannot draw the name."""
    name = " ".join(labels.names[index].split())
    font = font_manager.get_font(font_manager.findfont(FONT))
    if not name or not all(font.get_char_index(ord(char)) for char in name):
        name = str(labels.codes[index])
    return name if len(name) <= NAME_CHARS else name[: NAME_CHARS - 1].rstrip() + "…"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()
