"""A line to a modelled board without a port, damaged at will, on which nobody waits."""

from __future__ import annotations

from hw.spec.config import AcceleratorConfig
from hw.spec.link import BAUD
from sim.board.link_model import LinkModel
from sim.board.pseudo_terminal import Noise

__all__ = ["ModelLine"]


class ModelLine:
    """A :class:`sw.runtime.serial_line.Line`; whoever waits on it in vain finds time to have passed at once."""

    name, baud = "model", BAUD

    def __init__(
        self, config: AcceleratorConfig, *, memory_bytes: int = 128 * 1024, noise: float = 0.0, seed: int = 0
    ) -> None:
        self.seconds = 0.0
        self.noise = Noise(noise, seed)
        self.writes: list[bytes] = []
        self.answers = b""
        self.model = LinkModel(
            config, memory_bytes=memory_bytes, clock_hz=100_000_000, bit_clocks=100, clock=lambda: self.seconds
        )

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.answers += self.noise(self.model.exchange(self.noise(data)))

    def read(self, deadline: float) -> bytes:
        found, self.answers = self.answers, b""
        if not found:
            self.seconds += 1.0
        return found
