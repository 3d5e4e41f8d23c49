"""The area model beside synthesis: ``python bench/area.py --liberty nangate45_typ.lib.gz``.

Every preset is generated and synthesised by Yosys without flattening (``synth -booth``, then dfflibmap and abc, no wire
load); memories are black boxes, and left out of both figures.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from hw.spec.config import PRESETS, preset
from sw.model.area import area

_SYNTHESIS = """
import sys
from pyosys import libyosys as ys
folder = sys.argv[1]
design = ys.Design()
for command in (
    f"read_verilog -sv {folder}/rowcast.v", "blackbox rowcast_ram*", "hierarchy -top rowcast",
    "synth -top rowcast -booth -run begin:check", f"dfflibmap -liberty {folder}/cells.lib",
    f"abc -liberty {folder}/cells.lib", "opt_clean",
    f"tee -q -o {folder}/stat.json stat -json -liberty {folder}/cells.lib",
):
    ys.run_pass(command, design)
"""


def synthesised(name: str, liberty: Path) -> float:
    """Return the logic area of a preset in um2."""
    with tempfile.TemporaryDirectory() as folder:
        read = gzip.open if liberty.suffix == ".gz" else open
        with read(liberty, "rb") as cells:
            Path(folder, "cells.lib").write_bytes(cells.read())
        generate = [sys.executable, "-m", "hw.generate", "--quiet", "--preset", name, "--out", folder]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([sys.executable, "-c", _SYNTHESIS, folder], check=True, stdout=subprocess.DEVNULL)
        modules = json.loads(Path(folder, "stat.json").read_text())["modules"]
    return float(modules["\\rowcast"]["area"])


def main() -> int:
    """Print both figures for each preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--liberty", type=Path, required=True, help="cell library, .lib or .lib.gz")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["tiny", "edge8", "edge16", "edge32"])
    options = parser.parse_args()
    if not options.liberty.is_file():
        print(f"error: --liberty {options.liberty}: no such file", file=sys.stderr)
        return 2
    print(f"{'preset':8} {'model um2':>12} {'synthesis um2':>14} {'difference':>10}")
    for name in options.presets:
        parts = area(preset(name))
        model, found = sum(parts.values()) - parts["memories"], synthesised(name, options.liberty)
        print(f"{name:8} {model:12,.0f} {found:14,.0f} {100 * (model / found - 1):+9.1f}%", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
