"""Imports torchao without its start-up messages.

A torchao wheel carries GPU libraries and logs a warning for each that a CPU-only torch cannot load; nothing here uses
them.  torch logs one more, about a registration of torchao's own.
"""

import logging

_NOISY = ("torchao", "torch.utils._pytree")

_levels = {name: logging.getLogger(name).level for name in _NOISY}
for _name in _NOISY:
    logging.getLogger(_name).setLevel(logging.ERROR)
try:
    import torchao.quantization.pt2e  # noqa: F401
finally:
    for _name, _level in _levels.items():
        logging.getLogger(_name).setLevel(_level)
