"""Host of a board: programs and pictures over a serial line, results and counters back."""
