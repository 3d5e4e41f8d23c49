"""Pictures of the design, drawn from the design: ``python -m sim.pictures``."""
