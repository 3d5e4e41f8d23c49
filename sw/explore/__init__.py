"""Design-space exploration: which accelerators are worth building for a network, ``python -m sw.explore``."""
