"""SCALE-Sim on one array, layer by layer; runs in SCALE-Sim's own environment, which has nothing of this project.

``python scalesim_run.py CONFIG TOPOLOGY LAYOUT FOLDER`` prints a JSON object per layer of the topology: its index,
cycles as SCALE-Sim reports them (without prefetch, and with it), and the CPU seconds that the layer took.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from importlib.metadata import version


def main() -> None:
    """Run all layers."""
    config, topology, layout, folder = sys.argv[1:]
    started = time.process_time()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        from scalesim.layout_utils import layouts
        from scalesim.scale_config import scale_config
        from scalesim.single_layer_sim import single_layer_sim
        from scalesim.topology_utils import topologies
    os.chdir(folder)
    settings, shapes, places = scale_config(), topologies(), layouts()
    settings.read_conf_file(config)
    shapes.load_arrays(topology)
    places.load_arrays(layout)
    print(json.dumps({"version": version("scalesim"), "import_seconds": time.process_time() - started}), flush=True)
    for index in range(shapes.get_num_layers()):
        before = time.process_time()
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            layer = single_layer_sim()
            layer.set_params(layer_id=index, config_obj=settings, topology_obj=shapes, layout_obj=places, verbose=False)
            layer.run()
            with_prefetch, cycles, *_ = layer.get_compute_report_items()
        seconds = time.process_time() - before
        record = {"index": index, "cycles": int(cycles), "with_prefetch": int(with_prefetch), "cpu_seconds": seconds}
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
