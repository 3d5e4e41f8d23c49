"""Rowcast hardware: Amaranth modules that generate the accelerator, and its specification in :mod:`hw.spec`."""
