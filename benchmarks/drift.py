"""False alarms and power of the drift tests, on what a real model says of generated products, beside what people use today.

    python benchmarks/drift.py            # half an hour on one quiet core; the first time, training and 20,000 products on top
    python benchmarks/drift.py --quick    # some minutes: fewer windows, a smaller model

Windows are drawn from held-out products of which none is in the reference beside them; spoiled ones were spoiled before
the model saw them. Prints the tables, keeps them in outputs/drift_benchmark/, and draws docs/drift_power.png.
"""

import argparse
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from drift_others import ask_others
from drift_plot import draw_power
from drift_streams import NEW, Traffic, draw_clean, draw_shifted, draw_spoiled, load_traffic
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from scipy.stats import beta, norm

from rakuten.config import DriftConfig
from rakuten.model.reference import Observations
from rakuten.monitor.drift.accuracy import estimated_accuracy
from rakuten.monitor.drift.checks import check, columns_of, least_effect, outcome_of
from rakuten.monitor.drift.label_shift import estimate_shares

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "outputs/drift_benchmark"
PLOT = ROOT / "docs/drift_power.png"
SIZES = (30, 50, 100, 300, 1_000, 5_000)  # of windows without drift
POWER_SIZES = (30, 50, 100, 200, 500, 1_000)
WITHIN = 500  # requests in which a fault should be found
SCREENING = 2_000  # draws that tell a warning
KINDS = ("categories", "numbers", "embeddings")  # cheapest first
Draw = Callable[[int, np.random.Generator], tuple[Observations, Observations]]


@dataclass(frozen=True)
class Plan:
    """How much is simulated."""

    num_train: int = 8_000
    num_clean: int = 20_000
    num_spoiled: int = 6_000
    num_reference: int = 2_000
    num_windows: int = 1_000  # without drift, of each size
    num_power: int = 40  # of each fault and size
    num_streams: int = 30


QUICK = Plan(
    num_train=1_500, num_clean=9_000, num_spoiled=2_000, num_windows=100, num_power=20, num_streams=10
)


def false_alarms(traffic: Traffic, plan: Plan, config: DriftConfig, console: Console) -> dict[str, object]:
    """Windows and references redrawn each time from products of one kind: what is found is a false alarm."""
    screening = replace(config, max_draws=SCREENING)
    table = Table("n", "any test p ≤ 5 % (Holm)", "and large enough: warning", "alarm", "Evidently: a column",
                  "Evidently: half of them", "PSI ≥ 0.2: a column", "PSI ≥ 0.2: classes",
                  title=f"no drift: share of {plan.num_windows:,} windows that alarm, reference of {plan.num_reference:,};"
                  " 95 % Clopper-Pearson")  # fmt: skip
    result: dict[str, object] = {}
    for n in SIZES:
        rng = np.random.default_rng([1, n])
        hits = []
        for _ in range(plan.num_windows):
            window, reference = draw_clean(traffic, n, plan.num_reference, rng)
            found = check(reference, window, screening)
            significant = [each for each in found if each.significant(config.window_alpha)]
            warning = any(each.matters(config) for each in significant)
            alarm = bool(significant) and detect(reference, window, config)[1]
            others = ask_others(columns_of(reference, window))
            hits.append([bool(significant), warning, alarm, *asdict(others).values()])
        counts = np.array(hits).sum(axis=0).tolist()
        table.add_row(f"{n:,}", *(_share(count, plan.num_windows) for count in counts))
        result[str(n)] = {"num": plan.num_windows, "counts": counts}
    console.print(table)
    return result


def one_reference(traffic: Traffic, plan: Plan, config: DriftConfig, console: Console) -> dict[str, object]:
    """As a service lives: one reference, many windows. Its own sampling error is shared by all of them."""
    screening = replace(config, max_draws=SCREENING)
    num_references, num_windows = 10, max(10, plan.num_windows // 20)
    table = Table("n", "any test p ≤ 5 %", "warning",
                  title=f"no drift, {num_references} references kept for {num_windows} windows each: share of windows,"
                  " lowest / mean / highest over the references")  # fmt: skip
    result: dict[str, object] = {}
    for n in (100, 500, 5_000):
        rng = np.random.default_rng([2, n])
        rates = []
        for _ in range(num_references):
            rows = rng.permutation(len(traffic.clean))
            reference, rest = traffic.clean.take(rows[: plan.num_reference]), rows[plan.num_reference :]
            hits = []
            for _ in range(num_windows):
                window = traffic.clean.take(rng.choice(rest, min(n, len(rest)), replace=False))
                significant = [
                    e for e in check(reference, window, screening) if e.significant(config.window_alpha)
                ]
                hits.append([bool(significant), any(each.matters(config) for each in significant)])
            rates.append(np.mean(hits, axis=0))
        low, mean, high = np.min(rates, axis=0), np.mean(rates, axis=0), np.max(rates, axis=0)
        table.add_row(f"{n:,}", *(f"{low[i]:.1%} / {mean[i]:.1%} / {high[i]:.1%}" for i in range(2)))
        result[str(n)] = {"low": low.tolist(), "mean": mean.tolist(), "high": high.tolist()}
    console.print(table)
    return result


def faults(traffic: Traffic, plan: Plan) -> dict[str, Draw]:
    """Name -> a draw of a window of n with that fault, and a clean reference."""
    m = plan.num_reference
    found: dict[str, Draw] = {}
    for how in traffic.spoiled:
        for share in (0.25, 0.1, 0.05) if how == NEW else (1.0, 0.25, 0.1):
            found[f"{how}, {share:.0%} of products"] = (
                lambda n, rng, how=how, share=share: draw_spoiled(traffic, how, share, n, m, rng)  # type: ignore[misc]
            )
    for label, share in classes_of_sizes(traffic):
        for points in (0.05, 0.1):
            found[f"prior shift, {points:.0%} more of a class that had {share:.1%}"] = (
                lambda n, rng, label=label, points=points: draw_shifted(traffic, label, points, n, m, rng)  # type: ignore[misc]
            )
    return found


def classes_of_sizes(traffic: Traffic) -> list[tuple[int, float]]:
    """The rarest class, the median one, and the most frequent, with their shares."""
    counts = np.bincount(traffic.clean.labels)
    order = np.argsort(counts)
    return [
        (int(label), float(counts[label] / counts.sum()))
        for label in (order[0], order[len(order) // 2], order[-1])
    ]


def power(traffic: Traffic, plan: Plan, config: DriftConfig, console: Console) -> dict[str, object]:
    """How often each fault is found in one window of n requests."""
    table = Table("fault", *(f"{n:,}" for n in POWER_SIZES), f"Evidently at {WITHIN}: a column / half",
                  f"PSI at {WITHIN}: a column / classes",
                  title=f"power: share of {plan.num_power} windows of n requests that warn / alarm")  # fmt: skip
    result: dict[str, object] = {}
    for name, draw in faults(traffic, plan).items():
        ours, at = {}, []
        for n in POWER_SIZES:
            rng = np.random.default_rng([3, n, zlib.crc32(name.encode())])
            found, others = [], []
            for _ in range(plan.num_power):
                window, reference = draw(n, rng)
                found.append(detect(reference, window, config))
                if n == WITHIN:
                    others.append(tuple(asdict(ask_others(columns_of(reference, window))).values()))
            ours[n] = np.mean(found, axis=0).tolist()
            at = np.mean(others, axis=0).tolist() if n == WITHIN else at
        table.add_row(name, *(f"{ours[n][0]:.2f} / {ours[n][1]:.2f}" for n in POWER_SIZES),
                      f"{at[0]:.2f} / {at[1]:.2f}", f"{at[2]:.2f} / {at[3]:.2f}")  # fmt: skip
        result[name] = {"num": plan.num_power, "ours": ours, "others": at}
    console.print(table)
    return result


def best_possible(traffic: Traffic, plan: Plan, config: DriftConfig, console: Console) -> None:
    """What no test can beat on a prior shift: the two-sample test that is told all true labels."""
    table = Table("class had", "shift", "the class known before", "one of 27, unknown", "and with this test's share of 5 %",
                  title=f"prior shift, n = {WITHIN}, reference of {plan.num_reference:,}: power of a test of the true labels")  # fmt: skip
    num_classes = traffic.clean.probs.shape[1]
    weight = config.weights.get("classes", 1.0)
    num_tests = len(list(columns_of(traffic.clean.take(np.arange(50)), traffic.clean.take(np.arange(50)))))
    part = weight / (weight + num_tests - 1)
    for _, share in classes_of_sizes(traffic):
        for points in (0.05, 0.1):
            now = share + points
            deviation = np.sqrt(now * (1 - now) / WITHIN + share * (1 - share) / plan.num_reference)
            powers = [
                float(norm.sf(norm.isf(level / 2) - points / deviation))
                for level in (0.05, 0.05 / num_classes, 0.05 * part / num_classes)
            ]
            table.add_row(f"{share:.1%}", f"{points:.0%}", *(f"{each:.2f}" for each in powers))
    console.print(table)


def delay(traffic: Traffic, plan: Plan, config: DriftConfig, console: Console) -> dict[str, object]:
    """Requests until the first alarm, decided every 50 requests on the last window and the last ten together."""
    step, longest = 50, 1_000
    watched = replace(config, scales=(1, 10))
    table = Table("fault", "median", "90 %", f"found within {WITHIN}",
                  title=f"requests from the fault to the alarm, {plan.num_streams} streams of {longest:,}, a decision every"
                  f" {step}")  # fmt: skip
    result: dict[str, object] = {}
    for name, draw in faults(traffic, plan).items():
        rng = np.random.default_rng([4, zlib.crc32(name.encode())])
        delays = []
        for _ in range(plan.num_streams):
            stream, reference = draw(longest, rng)
            delays.append(_first_alarm(reference, stream.take(rng.permutation(len(stream))), step, watched))
        median, most = np.quantile(delays, (0.5, 0.9), method="inverted_cdf")
        shown = [f"{each:,.0f}" if np.isfinite(each) else f"> {longest:,}" for each in (median, most)]
        table.add_row(name, *shown, f"{np.mean(np.array(delays) <= WITHIN):.0%}")
        result[name] = [each if np.isfinite(each) else None for each in delays]
    console.print(table)
    return result


def quiet_streams(traffic: Traffic, plan: Plan, config: DriftConfig, console: Console) -> dict[str, object]:
    """Streams without drift against a reference that stays: alarms among all decisions."""
    step, num_decisions = 100, 25
    rng = np.random.default_rng(5)
    alarms = decisions = 0
    for _ in range(max(4, plan.num_streams)):
        stream, reference = draw_clean(traffic, step * num_decisions, plan.num_reference, rng)
        for end in range(1, num_decisions + 1):
            alarms += _alarms(reference, stream, end * step, step, config)
            decisions += 1
    console.print(
        f"no drift, decisions every {step} requests on the last window and the last {config.scales[-1]}: {alarms} false"
        f" alarms in {decisions:,} decisions; at most {config.alarm_alpha * decisions:.1f} expected\n"
    )
    return {"alarms": alarms, "decisions": decisions}


def accuracies(traffic: Traffic, plan: Plan, config: DriftConfig, console: Console) -> dict[str, object]:
    """Ways to tell the accuracy without labels, held against the labels."""
    table = Table("window", "true", "mean confidence", "less the reference's excess", "ATC", "mean of these two (used)",
                  "within its 95 % interval", title=f"accuracy told without labels, windows of {WITHIN}: mean; mean absolute error in points")  # fmt: skip
    result: dict[str, object] = {}
    cases: dict[str, Draw] = {"no drift": lambda n, rng: draw_clean(traffic, n, plan.num_reference, rng)}
    cases |= {
        name: draw
        for name, draw in faults(traffic, plan).items()
        if any(each in name for each in ("100%", "25%", "shift, 10%"))
    }
    for name, draw in cases.items():
        rng = np.random.default_rng([6, zlib.crc32(name.encode())])
        rows, covered = [], 0
        for _ in range(2 * plan.num_power):
            window, reference = draw(WITHIN, rng)
            true = float((window.predicted == window.labels).mean())
            used = estimated_accuracy(reference, window, config.interval)
            covered += used.low <= true <= used.high
            excess = float(((reference.predicted == reference.labels) - reference.confidence).mean())
            plain = float(window.confidence.mean())
            rows.append([true, plain, plain + excess, _atc(reference, window), used.value])
        values = np.array(rows)
        mean, error = values.mean(axis=0), np.abs(values - values[:, :1]).mean(axis=0)
        shown = [f"{mean[i]:.3f}; {100 * error[i]:.1f}" for i in range(1, 5)]
        table.add_row(name, f"{mean[0]:.3f}", *shown, f"{covered / len(rows):.0%}")
        result[name] = {"mean": mean.tolist(), "error": error.tolist(), "covered": covered / len(rows)}
    console.print(table)
    return result


def label_shifts(traffic: Traffic, plan: Plan, config: DriftConfig, console: Console) -> None:
    """BBSE's estimate of the share that moved."""
    table = Table("class had", "has", "estimated", "within its interval", "called changed", "another called changed",
                  title=f"label shift estimate, windows of {WITHIN}; intervals of all categories together at 95 %")  # fmt: skip
    codes = tuple(range(traffic.clean.probs.shape[1]))
    for label, share in classes_of_sizes(traffic):
        for points in (0.0, 0.05, 0.1):
            rng = np.random.default_rng([7, label, int(100 * points)])
            rows = []
            for _ in range(plan.num_power):
                window, reference = draw_shifted(traffic, label, points, WITHIN, plan.num_reference, rng)
                shares = estimate_shares(reference, window, codes, level=config.interval,
                                         num_resamples=config.num_resamples, rng=rng)  # fmt: skip
                mine = next(each for each in shares if each.code == label)
                true = float((window.labels == label).mean())
                rows.append([true, mine.share.value, mine.share.low <= true <= mine.share.high, mine.changed,
                             any(each.changed for each in shares if each.code != label)])  # fmt: skip
            true, value, covered, changed, wrong = np.mean(rows, axis=0)
            table.add_row(
                f"{share:.1%}",
                f"{true:.1%}",
                f"{value:.1%}",
                f"{covered:.0%}",
                f"{changed:.0%}",
                f"{wrong:.0%}",
            )
    console.print(table)


def detect(reference: Observations, window: Observations, config: DriftConfig) -> tuple[bool, bool]:
    """(warning, alarm of this scale): what the report would say, found with as little drawing as tells it.

    Holm's correction calls something drift exactly where the (weighted) Bonferroni bound does.
    """
    screening = replace(config, max_draws=min(config.max_draws, SCREENING))
    columns = sorted(columns_of(reference, window), key=lambda each: KINDS.index(each.kind))
    weights = {each.name: config.weights.get(each.name, 1.0) for each in columns}
    varied = [each for each in columns if each.kind == "embeddings" or _varies(each.window, each.reference)]
    total = sum(weights[each.name] for each in varied)
    content = zlib.crc32(np.ascontiguousarray(window.ids).tobytes())
    warning = False
    for column in varied:
        if not column.enough(config):
            continue
        factor = total / weights[column.name]
        outcome = outcome_of(column, screening, content)
        if (
            outcome.effect < least_effect(column.kind, config)
            or outcome.p_value * factor > config.window_alpha
        ):
            continue
        warning = True
        if outcome.p_value > 1 / SCREENING:  # some draw of so few went beyond: an alarm is out of reach
            continue
        if outcome_of(column, config, content).p_value * factor <= config.alarm_alpha / len(config.scales):
            return True, True
    return warning, False


def _varies(window: np.ndarray, reference: np.ndarray) -> bool:
    together = np.concatenate([window, reference])
    return len(together) > 0 and bool((together != together[0]).any())


def _first_alarm(reference: Observations, stream: Observations, step: int, config: DriftConfig) -> float:
    ends = range(step, len(stream) + 1, step)
    return next((float(end) for end in ends if _alarms(reference, stream, end, step, config)), float("inf"))


def _alarms(reference: Observations, stream: Observations, end: int, step: int, config: DriftConfig) -> bool:
    """The decision at request `end`, over all scales that there are windows for."""
    scales = [scale for scale in config.scales if scale * step <= end] or [1]
    if end < config.scales[-1] * step and end > step:
        scales.append(end // step)  # the last ten windows, as many as there are yet
    return any(
        detect(reference, stream.take(np.arange(end - scale * step, end)), config)[1] for scale in scales
    )


def _atc(reference: Observations, window: Observations) -> float:
    """Average thresholded confidence (Garg et al., 2022)."""
    right = float((reference.predicted == reference.labels).mean())
    return float((window.confidence > np.quantile(reference.confidence, 1 - right)).mean())


def _share(count: int, num: int) -> str:
    low = float(beta.ppf(0.025, count, num - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, num - count)) if count < num else 1.0
    return f"{count / num:.1%} ({low:.1%} to {high:.1%})"


def _results(path: Path) -> dict[str, object]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def drift_config() -> DriftConfig:
    values = yaml.safe_load((ROOT / "conf/drift.yaml").read_text(encoding="utf-8"))["drift"]
    return TypeAdapter(DriftConfig).validate_python(values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--num-windows", type=int, help="without drift, of each size")
    parser.add_argument("--only", nargs="*", help="parts: " + ", ".join(PARTS))
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else Plan()
    if arguments.num_windows:
        plan = replace(plan, num_windows=arguments.num_windows)
    console, config = Console(width=200), drift_config()
    traffic = load_traffic(
        FOLDER,
        num_train=plan.num_train,
        num_clean=plan.num_clean,
        num_spoiled=plan.num_spoiled,
        console=console,
    )
    right = {name: float((seen.predicted == seen.labels).mean()) for name, seen in traffic.spoiled.items()}
    console.print(
        f"model: accuracy {(traffic.clean.predicted == traffic.clean.labels).mean():.3f} on {len(traffic.clean):,} held-out"
        f" products; " + ", ".join(f"{name} {value:.3f}" for name, value in right.items()) + "\n"
    )
    kept = FOLDER / ("quick.json" if arguments.quick else "results.json")
    for name in arguments.only or PARTS:
        started = time.perf_counter()
        found = PARTS[name](traffic, plan, config, console)
        console.print(f"[dim]{name}: {time.perf_counter() - started:.0f} s[/dim]\n")
        if found is not None:
            kept.write_text(json.dumps(_results(kept) | {name: found}, indent=1) + "\n", encoding="utf-8")
    results = _results(kept)
    if not arguments.quick and {"power", "false alarms"} <= set(results):
        PLOT.write_bytes(draw_power(results["power"], results["false alarms"]))
        console.print(f"drawn: {PLOT.relative_to(ROOT)}")


PARTS = {
    "false alarms": false_alarms,
    "one reference": one_reference,
    "quiet streams": quiet_streams,
    "power": power,
    "best possible": best_possible,
    "delay": delay,
    "accuracies": accuracies,
    "label shifts": label_shifts,
}


if __name__ == "__main__":
    main()
