"""docs/drift_power.png: false alarms and power over the size of a window."""

import io
from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rakuten.experiment.plots import BLUE, DPI, INK, MUTED, STYLE, VERMILION

GREY = "#9aa5b1"
SHADES = ("#003a5c", BLUE, "#7db8de")  # from the strongest fault to the weakest


def draw_power(power: Mapping[str, Any], quiet: Mapping[str, Any]) -> bytes:
    """A panel of false alarms, one a fault with its strengths, one a size of prior shift with its classes."""
    panels: dict[str, list[tuple[str, Any]]] = {}
    for name, found in power.items():
        fault, _, strength = name.partition(", ")
        if fault == "prior shift":
            points, _, share = strength.partition(" more of a class that had ")
            points = points.replace("%", " points")
            fault, strength = f"prior shift, {points} to one class", f"a class of {share}"
        panels.setdefault(fault, []).append((strength, found))
    with rc_context(STYLE):
        figure = Figure(figsize=(13, 6.6), dpi=DPI, layout="constrained")
        axes = figure.subplots(2, 4, sharey=True).ravel()
        _quiet(axes[0], quiet)
        for axis, (fault, found) in zip(axes[1:], panels.items(), strict=False):
            _fault(axis, fault, found)
        for axis in axes[len(panels) + 1 :]:
            axis.set_visible(False)
        _key(axes[-1])
        for axis in axes[::4]:
            axis.set_ylabel("share of windows")
        out = io.BytesIO()
        figure.savefig(out, format="png")
    return out.getvalue()


def _prepare(axis: Axes, title: str) -> None:
    axis.set_title(title)
    axis.set_xscale("log")
    axis.set_ylim(-0.02, 1.02)
    axis.grid(True)
    ticks = (30, 100, 500, 1_000)
    axis.set_xticks(ticks, [f"{each:,}" for each in ticks])
    axis.minorticks_off()
    axis.set_xlabel("requests in the window")


def _quiet(axis: Axes, quiet: Mapping[str, Any]) -> None:
    _prepare(axis, "no drift: false alarms")
    sizes = [int(n) for n in quiet]
    rates = [[count / each["num"] for count in each["counts"]] for each in quiet.values()]
    for place, color, style in ((1, BLUE, "-"), (2, BLUE, "--"), (3, GREY, "-"), (4, GREY, "--"), (5, VERMILION, "-"),
                                (6, VERMILION, "--")):  # fmt: skip
        axis.plot(sizes, [rate[place] for rate in rates], style, color=color, marker="o", markersize=3)
    axis.axhline(0.05, color=MUTED, linewidth=0.8)
    axis.annotate("5 %", (sizes[-1], 0.06), color=MUTED, ha="right", fontsize=8)
    ticks = (30, 100, 300, 1_000, 5_000)
    axis.set_xticks(ticks, [f"{each:,}" for each in ticks])


def _fault(axis: Axes, title: str, found: list[tuple[str, Any]]) -> None:
    _prepare(axis, title)
    for (strength, each), color in zip(found, SHADES, strict=False):
        sizes = [int(n) for n in each["ours"]]
        ours = list(each["ours"].values())
        axis.plot(
            sizes, [rate[0] for rate in ours], "-", color=color, marker="o", markersize=3, label=strength
        )
        axis.plot(sizes, [rate[1] for rate in ours], "--", color=color, linewidth=1)
    axis.axvline(500, color=MUTED, linewidth=0.8)
    axis.legend(fontsize=8, loc="lower right", handlelength=1.4)


def _key(axis: Axes) -> None:
    axis.set_visible(True)
    axis.axis("off")
    for color, style, text in (
        (BLUE, "-", "warning (5 % of quiet windows at most)"),
        (BLUE, "--", "alarm (one quiet decision in 1,000 at most)"),
        (GREY, "-", "Evidently's defaults: a column"),
        (GREY, "--", "Evidently's defaults: half of the columns"),
        (VERMILION, "-", "PSI at 0.2: a column"),
        (VERMILION, "--", "PSI at 0.2: the answers"),
    ):
        axis.plot([], [], style, color=color, label=text)
    axis.legend(fontsize=9, loc="center left", labelcolor=INK)
