"""Software around the accelerator: networks, quantisation, compiler."""
