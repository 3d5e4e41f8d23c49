"""The area model beside synthesis: ``python bench/area.py --liberty nangate45_typ.lib.gz``.

Synthesis is ``python -m hw.report``'s; memories are left out of both figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from hw.spec.config import PRESETS, preset
from sw.model.area import area


def main() -> int:
    """Print both figures for each preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--liberty", type=Path, required=True, help="cell library, .lib or .lib.gz")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["tiny", "edge8", "edge16", "edge32"])
    options = parser.parse_args()
    print(f"{'preset':8} {'model um2':>12} {'synthesis um2':>14} {'difference':>10}")
    for name in options.presets:
        report = [sys.executable, "-m", "hw.report", "--preset", name, "--liberty", str(options.liberty), "--no-twin"]
        done = subprocess.run([*report, "--json"], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            return done.returncode  # it has said why
        found = json.loads(done.stdout)["logic_um2"]
        parts = area(preset(name))
        model = sum(parts.values()) - parts["memories"]
        print(f"{name:8} {model:12,.0f} {found:14,.0f} {100 * (model / found - 1):+9.1f}%", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
