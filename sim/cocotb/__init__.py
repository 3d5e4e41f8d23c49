"""Test benches of the generated Verilog in cocotb, and the runner that builds and runs them."""
