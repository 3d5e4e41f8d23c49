"""The generated hardware, compiled with Verilator and driven from Python."""
