"""CPU time of generation, beside the same design emitted with a submodule per use.

``python -m hw.generate`` with all it writes, and the Verilog alone with a submodule per use, which has no command:
CPU seconds of the whole process tree, imports and Yosys included, in a process of its own each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

LIMITS = {"edge32": 3.0, "edge64": 6.0}
"""CPU seconds allowed per preset."""

_REPEATED = """
import gc, sys
from pathlib import Path
from hw.generate import accelerator_verilog
from hw.spec.config import preset
gc.disable()
Path(sys.argv[2], "rowcast.v").write_text(accelerator_verilog(preset(sys.argv[1]), share=False))
gc.freeze()
"""


def measure(name: str, *, share: bool) -> tuple[float, int]:
    """Return (CPU seconds, bytes of Verilog) of one emission of a preset."""
    with tempfile.TemporaryDirectory() as folder:
        once = ["-m", "hw.generate", "--quiet", "--preset", name, "--out", folder]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *(once if share else ["-c", _REPEATED, name, folder])], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = Path(folder, "rowcast.v").stat().st_size
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, size


def main() -> int:
    """Measure, print a table or JSON; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=list(LIMITS), help=f"presets (default: {' '.join(LIMITS)})")
    parser.add_argument(
        "--compare", nargs="*", default=["edge16", "edge32"], metavar="PRESET",
        help="presets to emit with a submodule per use too, which takes minutes for edge64 (default: edge16 edge32)",
    )  # fmt: skip
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="take the best of N (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    results = {}
    for name in dict.fromkeys([*args.compare, *args.presets]):
        seconds, size = min(measure(name, share=True) for _ in range(args.repeat))
        results[name] = {"cpu_s": round(seconds, 2), "limit_s": LIMITS.get(name), "bytes": size}
        if not args.json:
            limit = f" (limit {LIMITS[name]:.0f} s)" if name in LIMITS else ""
            print(f"{name:8} each module once    {seconds:7.2f} s{limit}, {size / 1e6:.2f} MB", flush=True)
        if name in args.compare:
            slow, large = measure(name, share=False)
            results[name] |= {"repeated_cpu_s": round(slow, 2), "repeated_bytes": large}
            if not args.json:
                ratios = f"{slow / seconds:.1f} x the time, {large / size:.1f} x the size"
                print(f"{name:8} a submodule per use {slow:7.2f} s, {large / 1e6:.2f} MB: {ratios}", flush=True)
    if args.json:
        print(json.dumps(results))
    return int(any(row["limit_s"] and row["cpu_s"] > row["limit_s"] for row in results.values()))


if __name__ == "__main__":
    sys.exit(main())
