"""Signatures of the ports between units."""

from __future__ import annotations

from amaranth.hdl import unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from hw.layouts import CAUSE_WIDTH, PC_WIDTH, act_addr_width, pixels, range_width, unit_payload
from hw.spec.config import AcceleratorConfig

__all__ = [
    "ErrorSignature",
    "ReadSignature",
    "UnitSignature",
    "WriteSignature",
    "operand_signature",
    "read_signature",
    "write_signature",
]


class ReadSignature(Signature):
    """Vector read of the activation scratchpad, seen from the requester.

    A request accepted in cycle t (``req.valid & req.ready``) has its answer on ``data`` in cycle t + READ_LATENCY.

    Parameters
    ----------
    addr_width
        Bits of a byte address.
    lanes
        Bytes of an answer.
    strided_lanes
        So many lanes, the last ones, can be answered by every second byte; 0: the port has no strided access.
    banks
        If not 0, answers take a cycle more (the words read are registered before they are moved to their lanes), and
        the requester says which of so many banks it needs.

    Attributes
    ----------
    READ_LATENCY : int
        2, and 1 more with `banks`.

    Members
    -------
    req : Out(stream)
        ``addr``: address of byte 0, taken modulo the memory's size; ``lo``, ``hi``: bytes lo <= i < hi are read,
        lane i answers byte i, or ``fill`` if that is not read; ``banks`` (of ports that say it): the banks of these
        bytes, as of :class:`hw.scratchpad.VectorAddress`.  With ``strided`` (member of ports that can) lane
        ``lanes - strided_lanes + j`` answers byte 2*j, and the lanes below answer anything.  ``ready`` depends
        combinationally on ports of higher priority only.
    data : In
        ``lanes`` signed bytes.
    """

    READ_LATENCY: int = 2

    def __init__(self, addr_width: int, lanes: int, *, strided_lanes: int = 0, banks: int = 0) -> None:
        self.addr_width, self.lanes, self.strided_lanes, self.banks = addr_width, lanes, strided_lanes, banks
        self.READ_LATENCY = ReadSignature.READ_LATENCY + (banks > 0)
        self.span = max(lanes, 2 * strided_lanes - 1)
        """Bytes that a request can name."""
        bound = unsigned(range_width(self.span))
        members = {"addr": unsigned(addr_width), "lo": bound, "hi": bound, "fill": unsigned(8)}
        if strided_lanes:
            members["strided"] = unsigned(1)
        if banks:
            members["banks"] = unsigned(banks)
        super().__init__({"req": Out(stream.Signature(data.StructLayout(members))), "data": In(pixels(lanes))})


def operand_signature(config: AcceleratorConfig) -> ReadSignature:
    """Return the signature of the array's operand: ``read_lanes`` lanes, the columns' also at stride 2."""
    banks = config.act_banks if config.pipeline_mac else 0
    return ReadSignature(act_addr_width(config), config.read_lanes, strided_lanes=config.cols, banks=banks)


def read_signature(config: AcceleratorConfig, lanes: int) -> ReadSignature:
    """Return the signature of a scratchpad read of `lanes` consecutive bytes."""
    return ReadSignature(act_addr_width(config), lanes, banks=config.act_banks if config.pipeline_mac else 0)


class WriteSignature(Signature):
    """Vector write to the activation scratchpad, seen from the requester.

    Members
    -------
    req : Out(stream)
        ``addr``: byte address of lane 0, modulo the memory's size; lanes lo <= i < hi of ``data`` are written.
        A write accepted in cycle t is seen by reads accepted in cycle t + 1 + WRITE_LATENCY or later.  ``banks`` as in
        :class:`ReadSignature`.
    """

    WRITE_LATENCY = 1

    def __init__(self, addr_width: int, lanes: int, *, banks: int = 0) -> None:
        self.addr_width, self.lanes, self.banks = addr_width, lanes, banks
        self.span = lanes
        """Bytes that a request can name."""
        bound = unsigned(range_width(lanes))
        members = {"addr": unsigned(addr_width), "lo": bound, "hi": bound, "data": pixels(lanes)}
        if banks:
            members["banks"] = unsigned(banks)
        super().__init__({"req": Out(stream.Signature(data.StructLayout(members)))})


def write_signature(config: AcceleratorConfig, lanes: int) -> WriteSignature:
    """Return the signature of a scratchpad write of `lanes` consecutive bytes."""
    return WriteSignature(act_addr_width(config), lanes, banks=config.act_banks if config.pipeline_mac else 0)


class ErrorSignature(Signature):
    """A unit's error report, seen from the unit: ``valid`` is high for at least one cycle and stays until reset."""

    def __init__(self) -> None:
        super().__init__(
            {"valid": Out(1), "cause": Out(CAUSE_WIDTH), "pc": Out(PC_WIDTH), "info": Out(32)}
        )


class UnitSignature(Signature):
    """Control of a load, execute or store unit, seen from the unit.

    Members
    -------
    instr : In(stream)
        Instructions whose tokens have been taken; the unit may accept several before the first is done.
    done : Out(1)
        One cycle per instruction, in order, when all its writes are visible.
    idle : Out(1)
        Nothing accepted is unfinished, and no bus transfer is open.
    abort : In(1)
        Start nothing new on a bus (an error stopped the accelerator or a soft reset is pending); transfers already
        begun are completed and ``idle`` rises.  Held until the unit is reset.
    progress : Out(1)
        Something moved in this cycle (feeds the watchdog).
    error : Out(ErrorSignature)
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "instr": In(stream.Signature(unit_payload())),
                "done": Out(1),
                "idle": Out(1),
                "abort": In(1),
                "progress": Out(1),
                "error": Out(ErrorSignature()),
            }
        )
