"""The accelerator as a system on one FPGA: memory behind AXI, a UART host link, boards (``python -m hw.build``)."""
