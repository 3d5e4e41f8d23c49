"""Windows: a group of kernels runs strip by strip, and tensors inside it live only as the lines still needed.

Strip s of a group computes with every kernel the lines that the later kernels' strip s needs and that the strips before
have not computed, so nothing is computed twice.  A window holds line y of channel c at ``base + c*stride + y*width``,
stride = lines*width with `lines` the most that are alive at a time: a line overwrites the one of the next channel that
is `lines` older.  The window thus slides through ``height*width`` more bytes than it holds, and every EXEC addresses it
linearly.  Where no strip reads lines of another one, and where lines are loaded, strips take turns in buffers instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hw.spec.isa import Opcode, ResidualOp
from sw.compiler.lower import Kernel
from sw.compiler.tiling import input_lines
from sw.compiler.views import View

__all__ = ["Item", "Schedule", "Window", "line_views", "progress", "schedule"]

Lines = tuple[int, int]


@dataclass(frozen=True)
class Item:
    """One step of a group: lines that a kernel computes, or that a transfer moves.

    Parameters
    ----------
    opcode
        EXEC; LOAD of lines that a strip reads; STORE of what a kernel has computed.
    kernel
        Which of the group's kernels computes the lines, or is the first to read those loaded.
    storage
        Tensor that the lines are of.
    strip
        Number of the strip.
    lines
        (start, stop).
    """

    opcode: Opcode
    kernel: int
    storage: str
    strip: int
    lines: Lines


@dataclass(frozen=True)
class Window:
    """Room for the lines of a tensor that are alive.

    Parameters
    ----------
    shape
        Of the tensor.
    lines
        Lines from channel to channel.
    starts
        First line of each strip, if strips take turns in `copies` buffers; empty if the window slides.
    copies
        Buffers.
    """

    shape: tuple[int, int, int]
    lines: int
    starts: tuple[int, ...] = ()
    copies: int = 1

    @property
    def stride(self) -> int:
        """Bytes from channel to channel."""
        return self.lines * self.shape[2]

    @property
    def size(self) -> int:
        """Bytes of each buffer."""
        channels, height, width = self.shape
        return channels * self.stride if self.starts else (channels - 1) * self.stride + height * width

    def address(self, bases: Sequence[int], strip: int, channel: int, line: int) -> int:
        """Return where a line of a strip lies; `bases` are the buffers' first bytes."""
        first = self.starts[strip] if self.starts else 0
        return bases[strip % self.copies] + channel * self.stride + (line - first) * self.shape[2]


@dataclass(frozen=True)
class Schedule:
    """Steps of a group in order, and the windows they need by tensor."""

    items: tuple[Item, ...]
    windows: dict[str, Window]


@dataclass
class _Life:
    """What happens to a window: position in the order (of a use the last one at which it counts), strip and lines."""

    made: list[tuple[int, int, Lines]] = field(default_factory=list)
    used: list[tuple[int, int, Lines]] = field(default_factory=list)


def line_views(kernel: Kernel) -> list[View]:
    """Return the maps a kernel reads line by line: not a gate, which it reads as a whole."""
    residual = [kernel.residual] if kernel.residual is not None and kernel.residual_op == ResidualOp.ADD else []
    return [kernel.source, *residual]


def _reads(kernel: Kernel, lines: Lines) -> list[tuple[str, Lines]]:
    """Return the lines of each tensor that some output lines need; none if they need padding only."""
    found = [(kernel.source.storage, input_lines(kernel, *lines))]
    found += [(view.storage, lines) for view in line_views(kernel)[1:]]
    return [(name, read) for name, read in found if read[0] < read[1]]


def _need(kernel: Kernel, storage: str, stop: int) -> int:
    """Return the lines of a tensor, from 0 on, that a kernel must have for its first `stop` lines."""
    return max((lines[1] for name, lines in _reads(kernel, (0, stop)) if name == storage), default=0) if stop else 0


def progress(kernels: Sequence[Kernel], lines: int, *, short_first: bool = False) -> list[list[Lines]]:
    """Return the lines that each kernel computes in each strip, if the last kernel computes `lines` per strip.

    If its lines are no multiple of that, one strip has fewer: the last one, or with `short_first` the first one.
    """
    height = kernels[-1].map_shape[1]
    strips = range(-(-height // lines))
    begin = height - lines * len(strips) if short_first else 0
    ends: list[list[int]] = [[] for _ in kernels]
    for index in reversed(range(len(kernels))):
        own, made = kernels[index].map_shape[1], kernels[index].target.storage
        readers = [k for k in range(index + 1, len(kernels)) if _touches(kernels[k], made)]
        if readers:
            asked = [max(_need(kernels[k], made, ends[k][strip]) for k in readers) for strip in strips]
        else:
            asked = [min(own, -(-own * (begin + lines * (strip + 1)) // height)) for strip in strips]
        ends[index] = [*asked[:-1], own]
    return [list(zip([0, *stops], stops, strict=False)) for stops in ends]


def schedule(
    kernels: Sequence[Kernel],
    shapes: Mapping[str, tuple[int, int, int]],
    loaded: Sequence[str],
    stored: Iterable[str],
    pieces: Sequence[Sequence[Lines]],
    *,
    early: int = 0,
) -> Schedule:
    """Order a group's steps and size its windows.

    Parameters
    ----------
    shapes
        Of the tensors that get windows.
    loaded
        Those among them that lie in DRAM when the group begins.
    stored
        Tensors made here that go to DRAM, strip by strip; they need not have windows.
    pieces
        Lines of each kernel in each strip, see :func:`progress`.
    early
        Kernels, counted from the first, whose next strip runs before the last of the others' strip has: EXECs that
        follow each other then need not wait for results, but windows are larger.
    """
    items = _order(kernels, loaded, set(stored), pieces, early)
    lives = {name: _Life() for name in shapes}
    for position, item in enumerate(items):
        if item.opcode == Opcode.EXEC:
            for name, read in _reads(kernels[item.kernel], item.lines):
                if name in lives:
                    # the loads behind this step shall not wait for it; an EXEC does not (see tokens.overlaps)
                    end = _loads_behind(items, position) if name in loaded else position
                    lives[name].used.append((end, item.strip, read))
        if item.storage not in lives:
            continue
        if item.opcode == Opcode.STORE:
            # the kernel's next strip shall not wait for this transfer
            again = (p for p in range(position + 1, len(items)) if items[p].kernel == item.kernel)
            lives[item.storage].used.append((next(again, position), item.strip, item.lines))
        else:
            lives[item.storage].made.append((position, item.strip, item.lines))
    windows = {name: _window(shapes[name], life, len(pieces[0])) for name, life in lives.items()}
    return Schedule(tuple(items), _same_strides(kernels, windows))


def _order(
    kernels: Sequence[Kernel],
    loaded: Sequence[str],
    stored: set[str],
    pieces: Sequence[Sequence[Lines]],
    early: int,
) -> list[Item]:
    """Return the steps strip by strip; what a strip loads comes behind the first EXEC of the strip before."""
    items: list[Item] = []
    strips, last = len(pieces[0]), len(kernels) - 1
    next_load = 0

    def load_until(stop: int) -> None:
        nonlocal next_load
        while next_load < min(stop, strips):
            load(next_load)
            next_load += 1

    def load(strip: int) -> None:
        for name in loaded:
            reads = [
                (index, read)
                for index, kernel in enumerate(kernels)
                if pieces[index][strip][0] < pieces[index][strip][1]
                for storage, read in _reads(kernel, pieces[index][strip])
                if storage == name
            ]
            if reads:
                lines = min(start for _, (start, _) in reads), max(stop for _, (_, stop) in reads)
                items.append(Item(Opcode.LOAD, reads[0][0], name, strip, lines))

    def run(first: int, stop: int, strip: int) -> None:
        for index in range(first, stop):
            piece = pieces[index][strip]
            if piece[0] == piece[1]:
                continue
            name = kernels[index].target.storage
            load_until(strip + 1)  # a strip before may have had no EXEC to load behind
            items.append(Item(Opcode.EXEC, index, name, strip, piece))
            load_until(strip + 2)
            if name in stored:
                items.append(Item(Opcode.STORE, index, name, strip, piece))

    run(0, early, 0)
    for strip in range(strips):
        run(early, last, strip)
        if strip + 1 < strips:
            run(0, early, strip + 1)
        run(last, last + 1, strip)
    return items


def _loads_behind(items: Sequence[Item], position: int) -> int:
    """Return the position of the last LOAD that stands right behind a step; the step's own if there is none."""
    while position + 1 < len(items) and items[position + 1].opcode == Opcode.LOAD:
        position += 1
    return position


def _touches(kernel: Kernel, storage: str) -> bool:
    return any(view.storage == storage for view in line_views(kernel))


def _window(shape: tuple[int, int, int], life: _Life, strips: int) -> Window:
    made = {strip: lines for _, strip, lines in life.made}
    agree = all(made[strip] == lines for _, strip, lines in life.made)
    turns = agree and all(
        strip in made and made[strip][0] <= lines[0] and lines[1] <= made[strip][1] for _, strip, lines in life.used
    )
    # the oldest line and strip in use at or after each position
    oldest, first = shape[1], strips
    alive = copies = 1
    uses = sorted(life.used, key=lambda use: use[0])
    for position, strip, (start, stop) in reversed(life.made):
        while uses and uses[-1][0] >= position:
            _, number, lines = uses.pop()
            oldest, first = min(oldest, lines[0]), min(first, number)
        alive = max(alive, stop - min(oldest, start))
        copies = max(copies, strip - min(first, strip) + 1)
    if turns:
        starts = tuple(made[strip][0] if strip in made else 0 for strip in range(strips))
        return Window(shape, max(stop - start for start, stop in made.values()), starts, copies)
    return Window(shape, alive)


def _same_strides(kernels: Sequence[Kernel], windows: dict[str, Window]) -> dict[str, Window]:
    """Widen windows until every kernel's output and the map it adds have one stride, as EXEC wants it."""
    pairs = [(kernel.target.storage, view.storage) for kernel in kernels for view in line_views(kernel)[1:]]
    changed = True
    while changed:
        changed = False
        for pair in pairs:
            mine = [windows[name] for name in pair if name in windows]
            wide = max((window.lines for window in mine), default=0)
            if len(mine) == 1:  # the other one is on chip as a whole and has all its lines
                wide = mine[0].shape[1]
            for name in pair:
                if name in windows and windows[name].lines < wide:
                    whole = wide == windows[name].shape[1]
                    turns = {"starts": (), "copies": 1} if whole else {}
                    windows[name] = replace(windows[name], lines=wide, **turns)
                    changed = True
    return windows
