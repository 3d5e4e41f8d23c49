"""Area and timing of accelerators by synthesis: ``python -m hw.report --help``."""
