"""Do the tokens order what must be ordered?  A happens-before check over every byte, run beside the execution.

The queues run concurrently, so two instructions of different queues that touch the same byte (one of them writing)
need a chain of tokens between them.  Every queue keeps, as a vector clock, the newest instruction of each queue that
is known to be done; every byte remembers its newest reader and writer per queue.  Tokens are counted, and each
queue gives them in order, so the n-th token taken stands for the n-th given.
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
import numpy.typing as npt

from hw.spec.isa import Queue, Region, Target
from sim.iss.machine import Block, UndefinedUseError

__all__ = ["Hazards"]

Space = Target | Region
Clock = tuple[int, ...]
_NEVER = -1


class Hazards:
    """The clocks of one run.

    Parameters
    ----------
    onchip, dram
        Bytes of every on-chip memory and DRAM region.
    """

    def __init__(self, onchip: dict[Target, int], dram: dict[Region, int]) -> None:
        self._sizes = {_key(space): size for sizes in (onchip, dram) for space, size in sizes.items()}
        self._known: dict[Queue, Clock] = {queue: (_NEVER,) * len(Queue) for queue in Queue}
        self._tokens: dict[tuple[Queue, Queue], deque[Clock]] = defaultdict(deque)
        self._writers: dict[tuple[str, int], dict[Queue, npt.NDArray[np.int32]]] = defaultdict(dict)
        self._readers: dict[tuple[str, int], dict[Queue, npt.NDArray[np.int32]]] = defaultdict(dict)
        self._overlapped: int | None = None
        self._last_exec: int | None = None

    def take(self, queue: Queue, source: Queue) -> None:
        """`queue` takes a token from `source`: it now knows what that queue's instruction had done and known."""
        token = self._tokens[source, queue].popleft()
        self._known[queue] = tuple(map(max, self._known[queue], token))

    def give(self, queue: Queue, sink: Queue, pc: int) -> None:
        """Instruction `pc` of `queue` is done and gives a token to `sink`."""
        self._tokens[queue, sink].append(tuple(pc if q == queue else self._known[queue][q] for q in Queue))

    def begin_exec(self, pc: int, overlap: bool) -> None:
        """Note that an EXEC starts, with or without waiting for the one before to drain."""
        self._overlapped = self._last_exec if overlap else None
        self._last_exec = pc

    def read(self, queue: Queue, pc: int, space: Space, block: Block) -> None:
        """Note that an instruction reads a block.

        Raises
        ------
        UndefinedUseError
            If a writer of another queue, or of an overlapped EXEC, may still be at work, or if an on-chip byte was
            never written.
        """
        if block.empty:
            return
        views = {q: block.view(array) for q, array in self._writers[_key(space)].items()}
        newest_of_all = np.maximum.reduce(list(views.values())) if views else np.array(_NEVER)
        if isinstance(space, Target) and int(newest_of_all.min()) == _NEVER:
            raise UndefinedUseError(f"reads bytes of {space.name} that nothing has written ({block})")
        for writer, view in views.items():
            newest = int(view.max())
            self._ordered(queue, writer, newest, f"reads {space.name} bytes that instruction {newest} writes")
            if queue == writer == Queue.EXEC and newest == self._overlapped:
                raise UndefinedUseError(f"overlap=1, but it reads {space.name} bytes that instruction {newest} writes")
        self._note(self._readers, queue, pc, space, block)

    def write(self, queue: Queue, pc: int, space: Space, block: Block) -> None:
        """Note that an instruction writes a block; raise UndefinedUseError if others may still use its bytes."""
        for log, verb in ((self._readers, "reads"), (self._writers, "writes")):
            for other, array in log[_key(space)].items():
                newest = int(block.view(array).max())
                self._ordered(queue, other, newest, f"writes {space.name} bytes that instruction {newest} {verb}")
        self._note(self._writers, queue, pc, space, block)

    def _ordered(self, queue: Queue, other: Queue, newest: int, what: str) -> None:
        if other != queue and newest > self._known[queue][other]:
            raise UndefinedUseError(
                f"{what}, and no chain of tokens from queue {other.name} to {queue.name} orders the two"
            )

    def _note(
        self,
        log: dict[tuple[str, int], dict[Queue, npt.NDArray[np.int32]]],
        queue: Queue,
        pc: int,
        space: Space,
        block: Block,
    ) -> None:
        arrays = log[_key(space)]
        if queue not in arrays:
            arrays[queue] = np.full(self._sizes[_key(space)], _NEVER, np.int32)
        block.view(arrays[queue])[...] = pc


def _key(space: Space) -> tuple[str, int]:
    # Targets and Regions have equal values, and IntEnums of equal value are equal.
    return type(space).__name__, int(space)
