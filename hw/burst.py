"""From LOAD and STORE instructions to AXI bursts: row walk, range checks, burst splitting."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Mux, Signal, ValueLike, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hw.axi import RegisterSlice
from hw.layouts import PC_WIDTH, REGIONS_LAYOUT, act_addr_width, range_width, table_layout, unit_payload
from hw.ports import ErrorSignature
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.fields import FieldTable
from hw.spec.isa import LOAD, STORE, Target

__all__ = ["MAX_BURST_BEATS", "BurstGenerator", "beat_addr_width", "burst_beats", "burst_layout"]

MAX_BURST_BEATS = 64
PAGE_BYTES = 4096
"""An AXI burst must not cross a multiple of this."""


def burst_beats(config: AcceleratorConfig) -> int:
    """Beats of the longest burst: bursts also end at multiples of this many beats, so none crosses 4 KiB."""
    return min(MAX_BURST_BEATS, PAGE_BYTES // config.axi_bytes)


def beat_addr_width(config: AcceleratorConfig, mem_bytes: int) -> int:
    """Bits of an AXI-beat address (at least 1) in a memory of `mem_bytes`."""
    return max(1, (mem_bytes // config.axi_bytes - 1).bit_length())


def _mem_width(config: AcceleratorConfig) -> int:
    """Bits of a byte address in the largest on-chip memory."""
    return max(act_addr_width(config), (max(config.weight_bytes, config.param_bytes) - 1).bit_length())


def burst_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the payload of a burst.

    ``addr``: first byte, beat-aligned; ``len``: beats - 1; ``mem``: on-chip byte address of lane 0 of the first beat,
    modulo the memory's size (it lies before the row if the row begins inside the beat); ``lo``: first valid lane of
    the first beat; ``hi``: end of the valid lanes of the last beat (all other bounds are 0 and the beat's size);
    ``target``: :class:`hw.spec.isa.Target`; ``last``: the instruction's last burst.
    """
    bound = unsigned(range_width(config.axi_bytes))
    return data.StructLayout(
        {
            "addr": config.axi_addr_width,
            "len": 8,
            "mem": _mem_width(config),
            "lo": bound,
            "hi": bound,
            "target": 2,
            "last": 1,
        }
    )


class BurstGenerator(Component):
    """Turns DMA instructions into bursts that stay within a row and never cross 4 KiB.

    Addresses advance by additions only.  One burst per cycle, also when every row is a burst of its own and every
    instruction a single row (with ``pipeline_mac`` an instruction costs a cycle more); the first burst is on ``burst``
    4 cycles after its instruction was accepted (walk, sums, checks, split and output each end in a register).

    Every row is checked when its turn comes.  Causes, the first that applies, and ``info``:

    * BAD_FIELD: ``rows`` or ``row_bytes`` is 0 (info 0), or ``target`` is unknown (info: the target)
    * MISALIGNED: a WEIGHT or PARAM row that is not whole beats (info: the row's DRAM address)
    * MEM_RANGE: the row ends beyond the on-chip memory (info: the row's on-chip address)
    * DRAM_RANGE: the row ends beyond its region (info: the row's offset in the region)

    Parameters
    ----------
    config : AcceleratorConfig
    table : FieldTable
        LOAD or STORE.

    Members
    -------
    instr : In(stream)
        :func:`hw.layouts.unit_payload`.
    regions : In(REGIONS_LAYOUT)
        Read when an instruction is accepted, and steady while a program runs.
    halt : In(1)
        Accept no instruction and forget the rows not yet split; to be held until reset.  ``burst`` keeps what it
        offers.
    burst : Out(stream)
        :func:`burst_layout`; ``valid`` and ``payload`` are registers.
    fault : Out(ErrorSignature)
        ``valid`` while a faulty row waits; it goes no further.  Bursts of all rows before it have left or are in
        the output register.

    Reset drops everything.

    Raises
    ------
    ValueError
        If `table` is neither LOAD nor STORE.
    """

    def __init__(self, config: AcceleratorConfig, table: FieldTable) -> None:
        if table not in (LOAD, STORE):
            raise ValueError(f"table must be LOAD or STORE, not {table.name}")
        self.config, self.table = config, table
        super().__init__(
            {
                "instr": In(stream.Signature(unit_payload())),
                "regions": In(REGIONS_LAYOUT),
                "halt": In(1),
                "burst": Out(stream.Signature(burst_layout(config))),
                "fault": Out(ErrorSignature()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        row = self._rows(m)
        self._split(m, row)
        return m

    def _rows(self, m: Module) -> stream.Interface:
        """Walk the rows, check them and return them as a registered stream of `_row_layout`."""
        config = self.config
        loads = self.table is LOAD
        instr = data.View(table_layout(self.table), self.instr.payload.word[: self.table.used])
        beat_bits = (config.axi_bytes - 1).bit_length()

        # Walk: the row to check next.  Within the region a row ends below 2**32, so one carry bit above the field's
        # 40 holds every offset up to two rows past the first faulty one; the same goes for 2 bits above mem_addr.
        walk = Signal(
            data.StructLayout(
                {
                    "base": config.axi_addr_width,
                    "size": 32,
                    "offset": 41,
                    "mem": 26,
                    "left": 16,
                    "many": 1,
                    "row_bytes": 24,
                    "dram_stride": 32,
                    "mem_stride": 24,
                    "target": 2,
                    "pc": PC_WIDTH,
                }
            )
        )
        walk_valid = Signal()
        last_row = Signal()
        sums_ready = Signal()
        accept = Signal()
        target = instr.target if loads else Target.ACT.value
        m.d.comb += [
            last_row.eq(walk.left <= 1),
            # With ``pipeline_mac`` the way from the bus ends at the walk's registers.
            self.instr.ready.eq(~self.halt & (~walk_valid | (Const(not config.pipeline_mac) & last_row & sums_ready))),
            accept.eq(self.instr.valid & self.instr.ready),
        ]
        with m.If(sums_ready):
            m.d.sync += [
                walk.offset.eq(walk.offset + walk.dram_stride),
                walk.mem.eq(walk.mem + walk.mem_stride),
                walk.left.eq(walk.left - 1),
            ]
            with m.If(last_row):
                m.d.sync += walk_valid.eq(0)
        with m.If(accept):
            m.d.sync += [
                walk_valid.eq(1),
                walk.base.eq(Array(region.base for region in self.regions)[instr.region]),
                walk.size.eq(Array(region.size for region in self.regions)[instr.region]),
                walk.offset.eq(instr.dram_offset),
                walk.mem.eq(instr.mem_addr),
                walk.left.eq(instr.rows),
                walk.many.eq(instr.rows > 1),
                walk.row_bytes.eq(instr.row_bytes),
                walk.dram_stride.eq(instr.dram_stride),
                walk.mem_stride.eq(instr.mem_stride),
                walk.target.eq(target),
                walk.pc.eq(self.instr.payload.pc),
            ]

        # Sums: addresses of one row, and its checks.
        sizes = {Target.ACT: config.act_bytes, Target.WEIGHT: config.weight_bytes, Target.PARAM: config.param_bytes}
        mem_bytes = Signal(range(max(sizes.values()) + 1))
        with m.Switch(walk.target):
            for name, size in sizes.items():
                with m.Case(name.value):
                    m.d.comb += mem_bytes.eq(size)
        sums = Signal(
            data.StructLayout(
                {
                    "addr": config.axi_addr_width,
                    "offset": 32,
                    "mem": 26,
                    "row_bytes": 24,
                    "bad": 1,
                    "misaligned": 1,
                    "beyond": 1,
                    "outside": 1,
                    "target": 2,
                    "last": 1,
                    "pc": PC_WIDTH,
                }
            )
        )
        sums_valid = Signal()
        strides = Mux(walk.many, walk.mem_stride | walk.dram_stride, 0)
        ragged = (walk.base + walk.offset) | walk.mem | walk.row_bytes | strides
        row = stream.Signature(self._row_layout()).create(path=("row",))
        faulty = self._report(m, sums, sums_valid)
        m.d.comb += sums_ready.eq(~sums_valid | (~faulty & (~row.valid | row.ready)))
        with m.If(sums_ready):
            m.d.sync += [
                sums_valid.eq(walk_valid),
                sums.addr.eq(walk.base + walk.offset),
                sums.offset.eq(walk.offset),
                sums.mem.eq(walk.mem),
                sums.row_bytes.eq(walk.row_bytes),
                sums.bad.eq((walk.left == 0) | (walk.row_bytes == 0) | (walk.target > max(Target))),
                sums.misaligned.eq((walk.target != Target.ACT.value) & ragged[:beat_bits].any()),
                sums.beyond.eq(walk.mem + walk.row_bytes > mem_bytes),
                # One sum of three numbers, in place of a comparison behind an adder.
                sums.outside.eq((walk.size - walk.offset - walk.row_bytes) < 0),
                sums.target.eq(walk.target),
                sums.last.eq(last_row),
                sums.pc.eq(walk.pc),
            ]

        # The row in beats.
        skip = Signal(beat_bits)
        end = Signal(25)
        m.d.comb += [skip.eq(sums.addr[:beat_bits]), end.eq(skip + sums.row_bytes - 1)]
        block_bits = (burst_beats(config) - 1).bit_length()
        with m.If(~row.valid | row.ready):
            m.d.sync += [
                row.valid.eq(sums_valid & ~faulty & ~self.halt),
                row.p.final.eq((end >> beat_bits) <= ~(sums.addr >> beat_bits)[:block_bits]),
                row.p.beat.eq(sums.addr >> beat_bits),
                row.p.left.eq(end >> beat_bits),
                row.p.mem.eq(sums.mem - skip),
                row.p.lo.eq(skip),
                row.p.hi.eq(end[:beat_bits] + 1),
                row.p.target.eq(sums.target),
                row.p.last.eq(sums.last),
            ]
        with m.If(self.halt):
            m.d.sync += [walk_valid.eq(0), sums_valid.eq(0)]
        return row

    def _row_layout(self) -> data.StructLayout:
        burst = burst_layout(self.config).members
        beat_bits = (self.config.axi_bytes - 1).bit_length()
        return data.StructLayout(
            {
                "beat": self.config.axi_addr_width - beat_bits,
                "left": 25 - beat_bits,  # beats of the row - 1
                "final": 1,  # they end in this block
                **{name: burst[name] for name in ("mem", "lo", "hi", "target", "last")},
            }
        )

    def _report(self, m: Module, sums: data.View, valid: ValueLike) -> Signal:
        """Drive ``fault`` from a row's checks; return a signal that is high if it has failed one."""
        cause, info, faulty = self.fault.cause, self.fault.info, Signal()
        m.d.comb += [
            faulty.eq(sums.bad | sums.misaligned | sums.beyond | sums.outside),
            self.fault.pc.eq(sums.pc),
            self.fault.valid.eq(valid & faulty),
        ]
        with m.If(sums.bad):
            bad_target = sums.target > max(Target)
            m.d.comb += [cause.eq(ErrorCause.BAD_FIELD), info.eq(Mux(bad_target, sums.target, 0))]
        with m.Elif(sums.misaligned):
            m.d.comb += [cause.eq(ErrorCause.MISALIGNED), info.eq(sums.addr)]
        with m.Elif(sums.beyond):
            m.d.comb += [cause.eq(ErrorCause.MEM_RANGE), info.eq(sums.mem)]
        with m.Else():
            m.d.comb += [cause.eq(ErrorCause.DRAM_RANGE), info.eq(sums.offset)]
        return faulty

    def _split(self, m: Module, row: stream.Interface) -> None:
        """Cut rows into bursts at multiples of :func:`burst_beats`."""
        config = self.config
        beat_bits = (config.axi_bytes - 1).bit_length()
        block_bits = (burst_beats(config) - 1).bit_length()
        m.submodules.output = output = RegisterSlice(burst_layout(config))
        connect(m, output.o, flipped(self.burst))

        # `cut` bursts of the row have gone if it is not 0: beat, left and mem are then those of the rest.
        room = Signal(block_bits)
        rest = Signal.like(row.p.left)
        final = row.p.final
        length = Signal(8)
        step = Signal(block_bits + 1)
        burst = output.i.payload
        m.d.comb += [
            room.eq(~row.p.beat[:block_bits]),
            length.eq(Mux(final, row.p.left, room)),
            step.eq(room + 1),
            rest.eq(row.p.left - step),
            output.i.valid.eq(row.valid),
            burst.addr.eq(row.p.beat << beat_bits),
            burst.len.eq(length),
            burst.mem.eq(row.p.mem),
            burst.lo.eq(row.p.lo),
            burst.hi.eq(Mux(final, row.p.hi, config.axi_bytes)),
            burst.target.eq(row.p.target),
            burst.last.eq(row.p.last & final),
            row.ready.eq(output.i.ready & final),
        ]
        with m.If(row.valid & output.i.ready & ~final):
            m.d.sync += [
                row.p.beat.eq(((row.p.beat >> block_bits) + 1) << block_bits),
                row.p.left.eq(rest),
                row.p.final.eq(rest[block_bits:] == 0),
                row.p.mem.eq(row.p.mem + (step << beat_bits)),
                row.p.lo.eq(0),
            ]
