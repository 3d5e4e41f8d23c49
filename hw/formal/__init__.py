"""Formal verification of the control blocks: ``python -m hw.formal``."""
