"""Picture of reports: area by module beside each other, and the price of ST-OS."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.errors import RequestError
from hw.report.hierarchy import family

__all__ = ["FORMATS", "check_plot", "picture"]

FORMATS = (".png", ".svg", ".pdf")
_SHOWN = 8


def check_plot(path: Path) -> None:
    """Refuse a picture that could not be made, with :class:`RequestError`."""
    if path.suffix not in FORMATS:
        raise RequestError(f"--plot {path}: a picture ends in {', '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401 - whether it loads is the question
    except ImportError:
        raise RequestError("--plot needs matplotlib: pip install 'rowcast[plot]'") from None


def picture(reports: Sequence[dict[str, Any]], names: Sequence[str], suffix: str) -> bytes:
    """Return a picture in the format of a file name's suffix.

    Left: share of the logic by kind of module, a bar for each accelerator.  Right: price of ST-OS of PE and logic.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    shares = [_shares(report) for report in reports]
    largest = [kind for kind, _ in sum(shares, Counter()).most_common(_SHOWN)]
    base = [0.0] * len(reports)
    for kind in (*largest, "others"):
        heights = [
            100 * (share[kind] if kind != "others" else sum(share.values()) - sum(share[one] for one in largest))
            for share in shares
        ]
        left.bar(names, heights, bottom=base, label=kind.removeprefix("rowcast_"))
        base = [low + height for low, height in zip(base, heights, strict=True)]
    left.set_ylabel("share of logic, %")
    left.set_xlim(-0.6, 1.6 * len(names))
    left.legend(fontsize="small", loc="upper right")
    suffixes = "" if reports[0]["method"]["library"] else "_transistors"
    for key, label in (("pe", "PE"), ("logic", "all logic")):
        prices = [report[f"stos_price_{key}{suffixes}"] for report in reports]
        points = [(name, 100 * price) for name, price in zip(names, prices, strict=True) if price is not None]
        right.plot([name for name, _ in points], [price for _, price in points], marker="o", label=label)
    right.set_ylabel("price of ST-OS, %")
    right.set_ylim(bottom=0)
    right.legend(fontsize="small")
    out = io.BytesIO()
    metadata = {"Date": None} if suffix == ".svg" else None
    figure.savefig(out, format=suffix.removeprefix("."), metadata=metadata)
    return out.getvalue()


def _shares(report: dict[str, Any]) -> Counter[str]:
    shares: Counter[str] = Counter()
    for module in report["modules"]:
        shares[family(module["name"])] += module["share"]
    return shares
