"""Search for networks: a supernet, a table of cycles, and evolution (``python -m sw.search``)."""
