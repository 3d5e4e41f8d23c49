"""Neural Operator Scaffolding: FuSe networks trained on the scaffold of depthwise ones (``python -m sw.nos``)."""
