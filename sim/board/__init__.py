"""A board without the board: a pseudo-terminal, and behind it the SoC's RTL or a model of its link."""
