"""Emission: a plan becomes a sequence of steps in a valid sequential order."""

from __future__ import annotations

from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Activation, Opcode, Region, ResidualOp, Target
from hw.spec.program import PARAM_DTYPE
from sw.compiler.blocks import block_steps
from sw.compiler.constants import Constants, ConstantStore
from sw.compiler.fusion import constant_bytes
from sw.compiler.lower import Kernel
from sw.compiler.plan import GroupPlan, KernelPlan, Plan
from sw.compiler.spread import spread_steps
from sw.compiler.steps import Span, Step
from sw.compiler.storage import Storage
from sw.compiler.tiling import Tiling, input_lines, spans
from sw.compiler.views import View
from sw.compiler.written import Written

__all__ = ["emit"]

Strip = tuple[int, int]

_SMALL = 2048
"""Bytes up to which a resident tensor is stored in one go when it is complete, not piece by piece."""


@dataclass(frozen=True)
class _Place:
    """A piece of a tensor in the scratchpad: channel 0, line 0 of the piece, and bytes from channel to channel."""

    base: int
    stride: int


def emit(plan: Plan, config: AcceleratorConfig) -> tuple[list[Step], list[bytes]]:
    """Return the steps (LOAD, EXEC and STORE, loads right before their first use) and the constants they load."""
    emitter = _Emitter(plan, config)
    index = 0
    for item in plan.kernels:
        if isinstance(item, GroupPlan):
            emitter.group(item)
            index += len(item.kernels)
        else:
            emitter.kernel(index, item)
            index += 1
    return emitter.steps, emitter.store.blobs


class _Emitter:
    def __init__(self, plan: Plan, config: AcceleratorConfig) -> None:
        self.config, self.storages = config, plan.storages
        self.steps: list[Step] = []
        self.store = ConstantStore(config)
        self._layer = 0
        self._written = Written(config.act_bytes)

    def kernel(self, index: int, plan: KernelPlan) -> None:
        """Emit one kernel."""
        self._layer = index
        kernel, tiling = plan.kernel, plan.tiling
        constants = Constants(self.store, kernel, plan.tiling)
        self._resident_inputs(index, kernel)
        strips = spans(kernel.map_shape[1], tiling.lines)
        groups = spans(kernel.map_shape[0], tiling.channels)
        order = [(s, g) for s in strips for g in groups]
        if tiling.group_outer:
            order = [(s, g) for g in groups for s in strips]
        source = _Rotation(plan.source)
        residual = _Rotation(plan.residual)
        target = _Rotation(plan.target)
        stored = self.storages[kernel.target.storage]
        at_once = stored.resident and stored.stored and kernel.target.size <= _SMALL
        for strip, group in order:
            words, entries, loads = constants.place(group)
            for target_memory, blob, base in loads:
                self._load_constant(target_memory, blob, base)
            channels = (0, kernel.source.shape[0]) if kernel.dense else group
            lines = input_lines(kernel, *strip)
            read = self._input(kernel.source, source, channels, lines)
            other = self._second(kernel, residual, group, strip)
            written = (0, 1) if kernel.reduced else strip
            write = self._output_place(kernel.target, target, group, written)
            step = self._exec(kernel, strip, group, lines, read, write, other, words, entries)
            if kernel.beside is not None:
                self._pool_beside(step, kernel.beside, group)
            if kernel.spread:
                self.steps += self._spread(kernel, step)
            else:
                self.steps += block_steps(kernel, step, self.config)
            if not stored.resident or (stored.stored and not at_once):
                self._move(Opcode.STORE, kernel.target, group, written, write)
        if kernel.beside is not None and (home := self.storages[kernel.beside.storage]).stored:
            channels = (0, kernel.beside.shape[0])
            place = _resident(home, kernel.beside, channels, (0, 1))
            self._move(Opcode.STORE, kernel.beside, channels, (0, 1), place)
        if at_once:
            channels, lines = (0, kernel.target.shape[0]), (0, kernel.target.shape[1])
            place = _resident(stored, kernel.target, channels, lines)
            self._move(Opcode.STORE, kernel.target, channels, lines, place)

    def group(self, plan: GroupPlan) -> None:
        """Emit a group of kernels."""
        windows = plan.choice.schedule.windows
        weights, params = constant_bytes(plan.kernels, self.config)
        self.store.weights.keep_together(weights)
        self.store.params.keep_together(params)
        constants = []
        for offset, kernel in enumerate(plan.kernels):
            self._layer = plan.first + offset
            self._resident_inputs(self._layer, kernel)
            constants.append(Constants(self.store, kernel, Tiling.whole(kernel)))

        def place(view: View, strip: int, channels: Strip, lines: Strip) -> _Place:
            if view.storage not in windows:
                return _resident(self.storages[view.storage], view, channels, lines)
            window, bases = windows[view.storage], plan.windows[view.storage]
            if lines[0] == lines[1]:  # padding only
                return _Place(bases[0], window.stride)
            channel = view.offset // view.plane + channels[0]
            return _Place(window.address(bases, strip, channel, lines[0]), window.stride)

        for item in plan.choice.schedule.items:
            self._layer = plan.first + item.kernel
            kernel = plan.kernels[item.kernel]
            if item.opcode == Opcode.LOAD:
                shape = windows[item.storage].shape
                tensor, every = View(item.storage, 0, shape), (0, shape[0])
                self._move(Opcode.LOAD, tensor, every, item.lines, place(tensor, item.strip, every, item.lines))
                continue
            channels = (0, kernel.map_shape[0])
            target = place(kernel.target, item.strip, channels, item.lines)
            if item.opcode == Opcode.STORE:
                self._move(Opcode.STORE, kernel.target, channels, item.lines, target)
                continue
            words, entries, loads = constants[item.kernel].place(channels)
            for memory, blob, base in loads:
                self._load_constant(memory, blob, base)
            lines = input_lines(kernel, *item.lines)
            source = place(kernel.source, item.strip, channels, lines)
            other = None
            if kernel.residual is not None:
                read = item.lines if kernel.residual_op == ResidualOp.ADD else (0, 1)
                other = place(kernel.residual, item.strip, channels, read)
                other = other if kernel.residual_op == ResidualOp.ADD else _Place(other.base, 1)
            step = self._exec(kernel, item.lines, channels, lines, source, target, other, words, entries)
            self.steps += block_steps(kernel, step, self.config)

    # --- pieces of tensors -----------------------------------------------------------------------------------------

    def _resident_inputs(self, index: int, kernel: Kernel) -> None:
        """Load network inputs that stay on chip when their first reader comes."""
        for name in dict.fromkeys(v.storage for v in (kernel.source, kernel.residual) if v is not None):
            storage = self.storages[name]
            if storage.resident and storage.region == Region.INPUT and storage.first == index:
                whole = View(name, 0, (storage.size, 1, 1))
                self._move(Opcode.LOAD, whole, (0, storage.size), (0, 1), _Place(storage.base, 1))

    def _input(self, view: View, buffers: _Rotation, channels: Strip, lines: Strip) -> _Place:
        """Return where a piece lies, loading it into the next buffer unless it is on chip already."""
        storage = self.storages[view.storage]
        if storage.resident:
            return _resident(storage, view, channels, lines)
        stride = (lines[1] - lines[0]) * view.shape[2]
        base, fresh = buffers.take((channels, lines))
        place = _Place(base, stride)
        if fresh and stride:
            self._move(Opcode.LOAD, view, channels, lines, place)
        return place

    def _second(self, kernel: Kernel, buffers: _Rotation, group: Strip, strip: Strip) -> _Place | None:
        """Return where the second operand of a piece lies: a piece of a map, or a gate's bytes from the group on."""
        if kernel.residual is None:
            return None
        if kernel.residual_op == ResidualOp.ADD:
            return self._input(kernel.residual, buffers, group, strip)
        gate = self._input(kernel.residual, buffers, (0, kernel.residual.shape[0]), (0, 1))
        return _Place(gate.base + group[0], 1)

    def _output_place(self, view: View, buffers: _Rotation, channels: Strip, lines: Strip) -> _Place:
        storage = self.storages[view.storage]
        if storage.resident:
            return _resident(storage, view, channels, lines)
        base, _ = buffers.take((channels, lines))
        return _Place(base, (lines[1] - lines[0]) * view.shape[2])

    def _move(self, opcode: Opcode, view: View, channels: Strip, lines: Strip, place: _Place) -> None:
        """Emit the transfer of a piece between its home in DRAM and the scratchpad."""
        storage = self.storages[view.storage]
        rows = channels[1] - channels[0]
        length = (lines[1] - lines[0]) * view.shape[2]
        offset = storage.offset + view.offset + channels[0] * view.plane + lines[0] * view.shape[2]
        dram_stride, mem_stride = view.plane, place.stride
        if dram_stride == mem_stride == length:
            rows, length, dram_stride, mem_stride = 1, rows * length, 0, 0
        dram = Span(storage.region, offset, rows, dram_stride, length)
        chip = Span(Target.ACT, place.base, rows, mem_stride, length)
        values = {
            "region": int(storage.region),
            "dram_offset": offset,
            "mem_addr": place.base,
            "rows": rows,
            "row_bytes": length,
            "dram_stride": dram_stride,
            "mem_stride": mem_stride,
        }
        reads, writes = ([dram], [chip]) if opcode == Opcode.LOAD else ([chip], [dram])
        if opcode == Opcode.LOAD:
            values["target"] = int(Target.ACT)
        self.steps.append(Step(opcode, values, self._layer, reads=reads, writes=writes))

    def _load_constant(self, target: Target, blob: int, base: int) -> None:
        size = len(self.store.blobs[blob])
        values = {
            "target": int(target),
            "region": int(Region.CONST),
            "mem_addr": base,
            "rows": 1,
            "row_bytes": size,
        }
        writes = [Span(target, base, 1, 0, size)]
        self.steps.append(Step(Opcode.LOAD, values, self._layer, blob=blob, writes=writes))

    def _spread(self, kernel: Kernel, step: Step) -> list[Step]:
        """Return a spread kernel's EXECs: only image lines, if all else in its planes has been written before.

        What lies there does not matter, but nothing that runs may depend on what lay on chip before the program.
        """
        steps = spread_steps(kernel, step)
        if kernel.packing is None or self._written.covers(self.steps, steps, step.writes):
            return steps
        return spread_steps(kernel, step, whole=True)

    def _pool_beside(self, step: Step, view: View, group: Strip) -> None:
        """Let an EXEC that pools write its map, and the pooled bytes of its channels where they belong."""
        place = _resident(self.storages[view.storage], view, group, (0, 1))
        step.values |= {"res": int(ResidualOp.POOL), "res_base": place.base}
        step.writes.append(Span(Target.ACT, place.base, 1, 0, group[1] - group[0]))

    # --- execution -------------------------------------------------------------------------------------------------

    def _exec(
        self,
        kernel: Kernel,
        strip: Strip,
        group: Strip,
        lines: Strip,
        read: _Place,
        write: _Place,
        other: _Place | None,
        words: int,
        entries: int,
    ) -> Step:
        config, stage = self.config, kernel.stage
        cout, out_h, out_w = group[1] - group[0], strip[1] - strip[0], kernel.map_shape[2]
        in_h, in_w = lines[1] - lines[0], kernel.source.shape[2]
        pad_y = kernel.pad[0] - strip[0] * kernel.stride[0] + lines[0]
        cin = kernel.source.shape[0] if kernel.dense else 0
        reads = [
            Span(Target.ACT, read.base, cin or cout, read.stride, in_h * in_w),
            Span(Target.PARAM, entries * PARAM_DTYPE.itemsize, 1, 0, cout * PARAM_DTYPE.itemsize),
        ]
        if kernel.weights is not None:
            size = kernel.words(cout, config.rows) * config.weight_word_bytes
            reads.append(Span(Target.WEIGHT, words * config.weight_word_bytes, 1, 0, size))
        writes = [Span(Target.ACT, write.base, cout, write.stride, 1 if kernel.reduced else out_h * out_w)]
        if kernel.pointwise:
            in_w, in_h, out_w, out_h = in_h * in_w, 1, out_h * out_w, 1
        values = {
            "mode": int(kernel.mode),
            "depthwise": int(kernel.depthwise),
            "in_base": read.base,
            "in_cs": read.stride,
            "in_pitch": in_w,
            "in_w": in_w,
            "in_h": in_h,
            "in_zp": kernel.in_zp,
            "out_base": write.base,
            "out_cs": write.stride,
            "out_pitch": out_w,
            "out_w": out_w,
            "out_h": out_h,
            "kh": kernel.kernel[0],
            "kw": kernel.kernel[1],
            "sy": kernel.stride[0],
            "sx": kernel.stride[1],
            "pad_y": pad_y,
            "pad_x": kernel.pad[1],
            "cin": cin,
            "cout": cout,
            "w_base": words if kernel.weights is not None else 0,
            "p_base": entries,
            "out_zp": stage.out_zp,
            "q_lo": stage.q_lo,
            "q_hi": stage.q_hi,
            "post_shift": stage.post_shift,
        }
        if stage.hswish is not None:
            values |= {"act": int(Activation.HSWISH), "act_offset": stage.hswish[0], "act_limit": stage.hswish[1]}
        if other is not None:
            values |= {
                "res": int(kernel.residual_op),
                "res_base": other.base,
                "res_zp": stage.res_zp,
                "res_mult": stage.res_mult,
            }
            length = out_h * out_w if kernel.residual_op == ResidualOp.ADD else 1
            reads.append(Span(Target.ACT, other.base, cout, other.stride, length))
        if kernel.pool is not None:
            pool = kernel.pool
            values |= {
                "gap": 1,
                "gap_bias": pool.bias,
                "gap_mult": pool.mult,
                "gap_shift": pool.shift,
                "gap_zp": pool.zp,
            }
        packing = kernel.packing
        if packing is not None and not kernel.spread and not kernel.open:
            values |= {
                "seg": packing.pitch,
                "seg_gap": packing.gap,
                "seg_missing": max(0, strip[1] - max(strip[0], packing.lines - packing.missing)),
                "fold": int(kernel.fold),
            }
        return Step(Opcode.EXEC, values, self._layer, reads=reads, writes=writes)


def _resident(storage: Storage, view: View, channels: Strip, lines: Strip) -> _Place:
    base = storage.base + view.offset + channels[0] * view.plane + lines[0] * view.shape[2]
    return _Place(base, view.plane)


class _Rotation:
    """Strip buffers used in turn; a piece still in one of them is not fetched again."""

    def __init__(self, bases: tuple[int, ...]) -> None:
        self._bases = bases
        self._holds: list[tuple[Strip, Strip] | None] = [None] * len(bases)
        self._next = 0

    def take(self, piece: tuple[Strip, Strip]) -> tuple[int, bool]:
        """Return the buffer for a piece, and whether it must be filled."""
        if piece in self._holds:
            return self._bases[self._holds.index(piece)], False
        index = self._next
        self._next = (index + 1) % len(self._bases)
        self._holds[index] = piece
        return self._bases[index], True
