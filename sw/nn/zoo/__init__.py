"""ImageNet networks by name, with published parameter names and FuSeConv variants.

``create("mobilenet_v2:fuse_half")`` returns a network, ``names()`` lists them, ``metadata(name)`` says what pictures
they take, ``pretrained(name)`` returns one with trained weights.  ``docs/zoo.md`` has their sizes.
"""

from __future__ import annotations

from sw.nn.zoo.registry import Metadata, Preprocessing, ZooError, create, metadata, names, pretrained, unfused

__all__ = ["Metadata", "Preprocessing", "ZooError", "create", "metadata", "names", "pretrained", "unfused"]
