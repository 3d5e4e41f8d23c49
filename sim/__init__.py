"""Simulation: one programming interface over the instruction set simulator and the generated hardware."""
