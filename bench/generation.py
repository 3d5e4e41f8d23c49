"""CPU time of generation, beside the same design emitted with a submodule per use.

CPU seconds of the whole process tree (elaboration, netlist, Yosys), imports included, in a process of its own each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

LIMITS = {"edge32": 3.0, "edge64": 6.0}
"""CPU seconds allowed per preset."""

_RUN = """
import sys
from hw.generate import accelerator_verilog
from hw.spec.config import preset
print(len(accelerator_verilog(preset(sys.argv[1]), share=sys.argv[2] == "shared")))
"""


def measure(name: str, style: str) -> tuple[float, int]:
    """Return (CPU seconds, bytes of Verilog) of one emission of a preset."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", _RUN, name, style], check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, int(done.stdout)


def main() -> int:
    """Measure, print a table or JSON; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=list(LIMITS), help=f"presets (default: {' '.join(LIMITS)})")
    parser.add_argument("--alone", action="store_true", help="leave out the slow emission with a submodule per use")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="take the best of N (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    results = {}
    for name in args.presets:
        seconds, size = min(measure(name, "shared") for _ in range(args.repeat))
        results[name] = {"cpu_s": round(seconds, 2), "limit_s": LIMITS.get(name), "bytes": size}
        if not args.json:
            limit = f" (limit {LIMITS[name]:.0f} s)" if name in LIMITS else ""
            print(f"{name:8} each module once    {seconds:7.2f} s{limit}, {size / 1e6:.2f} MB", flush=True)
        if not args.alone:
            slow, large = measure(name, "repeated")
            results[name] |= {"repeated_cpu_s": round(slow, 2), "repeated_bytes": large}
            if not args.json:
                ratios = f"{slow / seconds:.1f} x the time, {large / size:.1f} x the size"
                print(f"{name:8} a submodule per use {slow:7.2f} s, {large / 1e6:.2f} MB: {ratios}", flush=True)
    if args.json:
        print(json.dumps(results))
    return int(any(row["limit_s"] and row["cpu_s"] > row["limit_s"] for row in results.values()))


if __name__ == "__main__":
    sys.exit(main())
