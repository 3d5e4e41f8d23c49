"""A run of a program as text and as JSON: outputs, best classes, cycles, utilisation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from hw.spec.program import Program, TensorSpec
from sw.backends import Outcome
from sw.regions import Int8Array, dequantise

__all__ = ["Run", "report", "show"]


class Run(Outcome, Protocol):
    """What a run leaves behind."""

    @property
    def cycles(self) -> int | None:
        """Clock cycles from start to done; None where there is no clock."""
        ...

    @property
    def counters(self) -> Mapping[str, int]:
        """Performance counters by name; empty where there is no clock."""
        ...


def _top(program: Program, spec: TensorSpec, value: Int8Array, count: int) -> list[dict[str, Any]]:
    """Return the `count` classes of highest score, best first; none if the output is no vector of scores."""
    if spec.shape[1:] != (1, 1):
        return []
    scores = dequantise(spec, value).ravel()
    classes = program.meta.get("classes") or []
    order = np.argsort(-scores, kind="stable")[: max(count, 0)]
    return [
        {"class": int(i), "name": str(classes[i]) if i < len(classes) else None, "score": float(scores[i])}
        for i in order
    ]


def report(program: Program, result: Run, *, backend: str, seconds: float, top: int = 5) -> dict[str, Any]:
    """Return a run as a JSON-able dictionary.

    ``utilisation`` is multiply-accumulates / (cycles * rows * cols), from 0 to 1; None without a clock.
    """
    config = program.config
    utilisation = None
    if result.cycles:
        utilisation = program.macs / (result.cycles * config.rows * config.cols)
    outputs = {}
    for spec in program.outputs:
        value = result.outputs[spec.name]
        real = dequantise(spec, value)
        outputs[spec.name] = {
            "shape": list(spec.shape),
            "scale": spec.scale,
            "zero_point": spec.zero_point,
            "sha256": hashlib.sha256(value.tobytes()).hexdigest(),
            "min": float(real.min()),
            "max": float(real.max()),
            "mean": float(real.mean()),
            "top": _top(program, spec, value, top),
        }
    return {
        "backend": backend,
        "config_hash": config.hash_hex,
        "rows": config.rows,
        "cols": config.cols,
        "macs": program.macs,
        "cycles": result.cycles,
        "utilisation": utilisation,
        "seconds": seconds,
        "counters": dict(result.counters),
        "outputs": outputs,
    }


def show(facts: dict[str, Any]) -> None:
    """Print what :func:`report` returned."""
    for name, output in facts["outputs"].items():
        shape = "x".join(map(str, output["shape"]))
        print(f"{name}: {shape}, min {output['min']:.4g}, max {output['max']:.4g}, mean {output['mean']:.4g}")
        for place, entry in enumerate(output["top"], 1):
            label = entry["name"] if entry["name"] is not None else f"class {entry['class']}"
            print(f"  {place}. {label:<30} {entry['score']:.4f}")
    if facts["cycles"] is None:
        print(
            f"{facts['backend']}: {facts['macs']:,} MACs in {facts['seconds']:.2f} s (no clock: cycles are not known)"
        )
        return
    print(
        f"{facts['backend']}: {facts['cycles']:,} cycles measured, {facts['macs']:,} MACs, utilisation "
        f"{100 * facts['utilisation']:.1f} % of {facts['rows']}x{facts['cols']} PEs, {facts['seconds']:.2f} s"
    )
