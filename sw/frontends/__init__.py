"""Readers of quantised networks into the compiler's graph IR."""
