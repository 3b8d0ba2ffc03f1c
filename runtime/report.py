"""Reports: what a training run came to, as a Markdown page with pictures."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..compiler.spec.registry import METRICS
from ..files import write_atomically
from .metrics import SMALL, direction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
Points = tuple[list[int], list[float]]

# The palette of Okabe and Ito (2008), which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SPLITS = {"train": COLOURS[0], "valid": COLOURS[1], "test": COLOURS[2]}
INK, GRID = "#333333", "#DDDDDD"
MANY = 120
NAMED = 40
LEGIBLE = 20


def write_report(run_dir: Path, history: Sequence[Row], summary: Mapping[str, Any]) -> list[Path]:
    """Write `report/report.md` and, where matplotlib is installed, its pictures; return their paths.

    run_dir: the directory of the run.
    history: the rows of `metrics.jsonl`: `step`, `epoch`, `split`, `loss`, perhaps `lr`, and metrics.
    summary: what is known at the end: `name`; `splits`, metrics by split; perhaps `intervals` of the
      same form with pairs, `confusion`, `classes`, `per_class`, `spans`, `horizons`, `texts`, `reliability` and
      `slices`.
    """
    folder = Path(run_dir) / "report"
    drawn = _draw(folder, history, summary)
    names = [path.name for path in drawn or []]
    page = _page(summary, names, drawn is not None)
    return [*(drawn or []), _write(folder / "report.md", page.encode())]


def _write(path: Path, content: bytes) -> Path:
    write_atomically(path, content)
    return path


def _has(summary: Mapping[str, Any], name: str) -> bool:
    value = summary.get(name)
    return value is not None and len(value) > 0


# The page.


def _page(summary: Mapping[str, Any], pictures: Sequence[str], drawable: bool) -> str:
    parts = [f"# {_cell(summary.get('name', 'model'))}"]
    splits = summary.get("splits") or {}
    if splits:
        parts += ["## Metrics", _metric_table(splits, summary.get("intervals") or {})]
    if not drawable:
        parts.append("`pip install trine[report]` draws the curves.")
    if "curves.png" in pictures:
        parts += ["## Training", "![loss, learning rate and metrics over the updates](curves.png)"]
    if _has(summary, "per_class"):
        parts += ["## Classes", _class_table(summary["per_class"])]
    if _has(summary, "spans"):
        parts += ["## Entities", _class_table(summary["spans"])]
    if _has(summary, "horizons"):
        parts += ["## Steps ahead", _row_table(summary["horizons"], words=0)]
    if _has(summary, "texts"):
        parts += ["## Texts", _row_table(summary["texts"], words=2)]
    if "confusion.png" in pictures:
        parts += ["## Confusion", "![how often each class was taken for each other](confusion.png)"]
    elif _has(summary, "confusion") and len(summary["confusion"]) <= LEGIBLE:
        parts += ["## Confusion", _confusion_table(summary["confusion"], _class_names(summary))]
    if "calibration.png" in pictures:
        parts += ["## Calibration", "![confidence against accuracy](calibration.png)"]
    for field, rows in (summary.get("slices") or {}).items():
        parts += [f"## By {_cell(field)}", _slice_table(rows)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A Markdown table whose first columns are words and the others numbers."""
    rule = [":--" if i < words else "--:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))


def _cell(value: Any) -> str:
    """Text that stands in a table, or a heading, as it is."""
    text = " ".join(str(value).split())
    for mark, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("*", "\\*"), ("`", "\\`")):
        text = text.replace(mark, safe)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


def _number(value: Any) -> str:
    """Four significant digits; a dash where there is no number."""
    if not isinstance(value, Real) or math.isnan(value):
        return "–"
    if isinstance(value, Integral) or math.isinf(value):
        return str(value)
    value = float(value)
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def _metric_table(splits: Mapping[str, Row], intervals: Mapping[str, Row]) -> str:
    names = list(dict.fromkeys(name for values in splits.values() for name in values))
    rows = [
        [
            _cell(name),
            *(
                _with_interval(values.get(name), (intervals.get(split) or {}).get(name))
                for split, values in splits.items()
            ),
        ]
        for name in names
    ]
    return _table(["metric", *map(_cell, splits)], rows)


def _with_interval(value: Any, interval: Sequence[float] | None) -> str:
    if interval is None or any(_number(end) == "–" for end in interval):
        return _number(value)
    return f"{_number(value)} ({_number(interval[0])} to {_number(interval[1])})"


def _row_table(rows: Sequence[Row], words: int) -> str:
    """A table of rows that are alike, the first columns of words."""
    head = list(rows[0])
    return _table(
        head, [[_cell(r[n]) if i < words else _number(r[n]) for i, n in enumerate(head)] for r in rows], words
    )


def _class_table(rows: Sequence[Row]) -> str:
    numbers = ("precision", "recall", "f1", "support")
    return _table(["class", *numbers], [[_cell(row["name"]), *(_number(row[n]) for n in numbers)] for row in rows])


def _confusion_table(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    rows = [[_cell(name), *(str(int(count)) for count in counts)] for name, counts in zip(names, matrix, strict=True)]
    return _table(["true \\ predicted", *map(_cell, names)], rows)


def _slice_table(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    lines = [
        [
            _cell(row["value"]) + (" (small)" if row.get("small") else ""),
            str(row["count"]),
            *(_number(row["metrics"].get(name)) for name in names),
        ]
        for row in rows
    ]
    table = _table(["value", "rows", *map(_cell, names)], lines)
    if not any(row.get("small") for row in rows):
        return table
    return f"{table}\n\nSmall: fewer than {SMALL} rows, too few to rely on."


def _class_names(summary: Mapping[str, Any]) -> list[str]:
    names = summary.get("classes") or range(len(summary["confusion"]))
    return [str(name) for name in names]


# The pictures.


def _draw(folder: Path, history: Sequence[Row], summary: Mapping[str, Any]) -> list[Path] | None:
    """The paths of the pictures, or `None` where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return None
    pictures = {
        "curves.png": _curves(history) if any(_number_of(row, "loss") is not None for row in history) else None,
        "confusion.png": (
            _confusion(summary["confusion"], _class_names(summary)) if _has(summary, "confusion") else None
        ),
        "calibration.png": _calibration(summary["reliability"]) if _has(summary, "reliability") else None,
    }
    return [_write(folder / name, _png(figure)) for name, figure in pictures.items() if figure is not None]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    """A figure of its own: pyplot, which keeps global state, is not involved."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def _plain(axes: Axes, ylabel: str, xlabel: str = "") -> None:
    """The look that all panels share."""
    axes.set_ylabel(ylabel, color=INK)
    axes.set_xlabel(xlabel, color=INK)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")


def _number_of(row: Row, name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None


def _points(history: Sequence[Row], split: str, name: str) -> Points:
    """The updates at which a split has a number, and the numbers."""
    rows = [(int(row["step"]), _number_of(row, name)) for row in history if row.get("split") == split]
    found = sorted((step, value) for step, value in rows if value is not None and math.isfinite(value))
    return [step for step, _ in found], [value for _, value in found]


def _splits(history: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["split"]) for row in history if "split" in row))


def _panels(history: Sequence[Row]) -> list[list[str]]:
    """The metrics of a run, scores from 0 to 1 in one panel, each of the others in its own."""
    keys = dict.fromkeys(key for row in history for key in row)
    names = [key for key in keys if METRICS.find(key.split("(")[0]) is not None]
    shares: list[str] = []
    others: list[str] = []
    for name in names:
        values = [v for split in _splits(history) for v in _points(history, split, name)[1]]
        if not values:
            continue
        (shares if direction(name) == "max" and min(values) >= 0 and max(values) <= 1 else others).append(name)
    return [*([shares] if shares else []), *([name] for name in others)]


def _curves(history: Sequence[Row]) -> Figure:
    panels = _panels(history)
    rates = _points(history, "train", "lr")
    heights = [3.0, *([1.2] if rates[0] else []), *(2.2 for _ in panels)]
    figure = _figure(8, sum(heights) + 0.6)
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    axes = list(grid[:, 0])
    _draw_loss(axes[0], history)
    if rates[0]:
        axes[1].plot(*rates, color=COLOURS[2], linewidth=1.6)
        axes[1].set_ylim(bottom=0)
        axes[1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        _plain(axes[1], "learning rate")
    for panel, names in zip(axes[len(axes) - len(panels) :], panels, strict=True):
        _draw_metrics(panel, history, names)
    _plain(axes[-1], axes[-1].get_ylabel(), "updates")
    figure.align_ylabels(axes)
    return figure


def _draw_loss(axes: Axes, history: Sequence[Row]) -> None:
    values = []
    for split in _splits(history):
        steps, losses = _points(history, split, "loss")
        if not steps:
            continue
        values += losses
        _draw_loss_of(axes, split, steps, losses)
    log = bool(values) and min(values) > 0 and max(values) > 50 * min(values)
    if log:
        axes.set_yscale("log")
    _plain(axes, "loss (log scale)" if log else "loss")
    if values:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)


def _draw_loss_of(axes: Axes, split: str, steps: list[int], losses: list[float]) -> None:
    """A loss curve: smoothed over its faint self if there are many points, its least marked if few."""
    colour = SPLITS.get(split, COLOURS[4])
    if len(steps) > MANY:
        axes.plot(steps, losses, color=colour, linewidth=0.7, alpha=0.3)
        axes.plot(steps, _smooth(losses, len(losses) // 50), color=colour, linewidth=1.8, label=f"{split} (smoothed)")
        return
    best = min(range(len(losses)), key=losses.__getitem__)
    label = split if split == "train" else f"{split} (least: {losses[best]:.4g} at {steps[best]})"
    axes.plot(steps, losses, color=colour, linewidth=1.8, marker=_marker(steps), markersize=3.5, label=label)
    if split != "train":
        axes.plot(
            [steps[best]], [losses[best]], "o", color=colour, markersize=8, markerfacecolor="white", markeredgewidth=1.8
        )


def _marker(steps: Sequence[int]) -> str:
    return "o" if len(steps) <= 40 else ""


def _smooth(values: Sequence[float], reach: int) -> list[float]:
    """The mean over each number and its neighbours up to `reach` away on both sides."""
    total = [0.0]
    for value in values:
        total.append(total[-1] + value)
    spans = ((max(0, i - reach), min(len(values), i + reach + 1)) for i in range(len(values)))
    return [(total[high] - total[low]) / (high - low) for low, high in spans]


def _draw_metrics(axes: Axes, history: Sequence[Row], names: Sequence[str]) -> None:
    """One colour per metric; a split other than `valid` has broken lines."""
    styles = {"valid": "-", "train": "--"}
    for i, name in enumerate(names):
        for split in _splits(history):
            steps, values = _points(history, split, name)
            if steps:
                axes.plot(
                    steps,
                    values,
                    styles.get(split, ":"),
                    color=COLOURS[(i + 1) % len(COLOURS)],
                    linewidth=1.8,
                    marker=_marker(steps),
                    markersize=3.5,
                    label=f"{split} {name}",
                )
    _plain(axes, names[0] if len(names) == 1 else "metric (0 to 1)")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)


def _confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Each class's row as shares of the class, with the counts written in where there is room."""
    count = len(names)
    shares = [[int(n) / max(int(sum(row)), 1) for n in row] for row in matrix]
    side = min(3.2 + 0.42 * count, 12.0)
    figure = _figure(side + 1.2, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _plain(axes, "true class", "predicted class")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    every = range(0, count, math.ceil(count / NAMED))
    labels = [_short(names[i]) for i in every]
    slanted = max(map(len, labels)) > 3
    turn: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axes.set_xticks(list(every), labels, **turn)
    axes.set_yticks(list(every), labels)
    axes.tick_params(length=0)
    if count <= LEGIBLE:
        _write_counts(axes, matrix, shares)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("share of the true class", color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, labelsize=9, length=0)
    return figure


def _write_counts(axes: Axes, matrix: Sequence[Sequence[int]], shares: Sequence[Sequence[float]]) -> None:
    widest = max(len(str(n)) for row in matrix for n in row)
    size = 9 if widest <= 4 else 7
    for i, row in enumerate(matrix):
        for j, n in enumerate(row):
            colour = "white" if shares[i][j] > 0.5 else INK if n else "#BBBBBB"
            axes.text(j, i, str(n), ha="center", va="center", color=colour, fontsize=size)


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"


def _calibration(reliability: Mapping[str, Sequence[float | None]]) -> Figure:
    """Accuracy and confidence per bin, over how many predictions each bin holds."""
    counts = [int(n or 0) for n in reliability["count"]]
    bins = len(counts)
    filled = [i for i in range(bins) if counts[i] > 0]
    accuracy = [float(reliability["accuracy"][i] or 0) for i in filled]
    confidence = [float(reliability["confidence"][i] or 0) for i in filled]
    weights = [counts[i] / sum(counts) for i in filled]
    error = sum(w * abs(a - c) for w, a, c in zip(weights, accuracy, confidence, strict=True))
    middles = [(i + 0.5) / bins for i in range(bins)]
    figure = _figure(5.6, 6.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], "--", color="#777777", linewidth=1.2, label="perfectly calibrated")
    top.bar([middles[i] for i in filled], accuracy, 0.92 / bins, color="#B7D3E8", label="accuracy in the bin")
    sizes = [12 + 90 * weight / max(weights) for weight in weights]
    dots = top.scatter(confidence, accuracy, sizes, color=COLOURS[1], zorder=3, clip_on=False)
    dots.set_label("at mean confidence, sized by predictions")
    top.set_xlim(0, 1)
    top.set_ylim(0, 1.02)
    box = {"color": "white", "alpha": 0.85}
    top.text(0.98, 0.03, f"calibration error {error:.4f}", color=INK, ha="right", bbox=box)
    _plain(top, "accuracy")
    figure.legend(frameon=False, labelcolor=INK, fontsize=9, loc="outside upper left")
    bottom.bar(middles, counts, 0.92 / bins, color=COLOURS[0])
    _plain(bottom, "predictions", "confidence")
    figure.align_ylabels([top, bottom])
    return figure
