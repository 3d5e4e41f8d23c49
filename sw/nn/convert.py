"""Replace depthwise convolutions of a network by FuSeConv."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from torch import fx, nn

from sw.nn.fuse import FuSeConv2d, Init, Variant
from sw.nn.scaling import squeeze_excite

__all__ = ["ConvertError", "DepthwiseBlock", "convert", "depthwise_blocks"]

_ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.SiLU,
    nn.GELU,
    nn.Sigmoid,
    nn.Tanh,
    nn.LeakyReLU,
    nn.ELU,
)
_TRANSPARENT = (nn.Identity, nn.Dropout, nn.Dropout2d, *_ELEMENTWISE)
_TRANSPARENT_FUNCTIONS = (
    torch.relu,
    torch.sigmoid,
    torch.tanh,
    F.relu,
    F.relu6,
    F.hardtanh,
    F.hardswish,
    F.hardsigmoid,
    F.silu,
    F.gelu,
    F.leaky_relu,
    F.elu,
    F.dropout,
)


class ConvertError(ValueError):
    """A network or a selection of layers that cannot be converted; the message names the layer and the reason."""


@dataclass(frozen=True)
class DepthwiseBlock:
    """A depthwise convolution found in a network, with what surrounds it (module names).

    Parameters
    ----------
    index
        Position among the network's depthwise convolutions, in order of execution, from 0.
    name
        The depthwise convolution.
    bn, act
        Its normalisation, and the activation module behind that, if FuSeConv can take it over.
    pointwise
        The 1x1 convolution that alone consumes the result; needed by variant full, which widens it.
    problem
        Why the layer cannot be converted at all, or None.
    gates
        The two 1x1 convolutions of the squeeze-and-excite between the layer and `pointwise`, which full widens too, or
        an empty tuple.
    pad
        The ``nn.ZeroPad2d`` that pads for the layer, or None.
    """

    index: int
    name: str
    bn: str | None
    act: str | None
    pointwise: str | None
    problem: str | None
    gates: tuple[str, ...] = ()
    pad: str | None = None


def _trace(model: nn.Module) -> fx.Graph:
    try:
        return fx.Tracer().trace(model)
    except Exception as error:  # tracing runs the network's own code, which may raise anything
        raise ConvertError(
            f"{type(model).__name__} cannot be traced by torch.fx ({error}); make its forward free of control flow "
            f"that depends on data, or convert its traceable parts one by one"
        ) from error


def _is_depthwise(module: nn.Module) -> bool:
    """Whether a module filters each channel by itself with a two-dimensional kernel."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and min(module.kernel_size) > 1


def _pad_problem(pad: nn.ZeroPad2d, conv: nn.Conv2d) -> str | None:
    """Say why FuSeConv's centred padding cannot replace explicit padding, or None.

    TensorFlow's SAME padding for stride 2 and an even size has one zero less in front; the output has the same size.
    """
    half = conv.kernel_size[0] // 2
    left, right, top, bottom = pad.padding
    lopsided = conv.stride == (2, 2) and left == half - 1
    if conv.padding == (0, 0) and (left, right) == (top, bottom) and right == half and (left == half or lopsided):
        return None
    return (
        f"padding {pad.padding} and {conv.padding!r}; {half} zeros on both axes are needed "
        f"(for stride 2, one less in front will do)"
    )


def _geometry_problem(conv: nn.Conv2d, pad: nn.Module | None) -> str | None:
    kernel = conv.kernel_size
    if conv.out_channels != conv.in_channels:
        return f"channel multiplier {conv.out_channels // conv.in_channels}; only 1 is supported"
    if kernel[0] != kernel[1] or kernel[0] % 2 == 0:
        return f"kernel {kernel[0]}x{kernel[1]}; it must be square and odd"
    if conv.dilation != (1, 1):
        return f"dilation {conv.dilation}; only 1 is supported"
    if isinstance(pad, nn.ZeroPad2d):
        return _pad_problem(pad, conv)
    half = kernel[0] // 2
    if conv.padding_mode != "zeros" or conv.padding not in ((half, half), "same"):
        return f"padding {conv.padding!r} ({conv.padding_mode}); {half} zeros on both axes are needed"
    return None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _pointwise(
    node: fx.Node, modules: dict[str, nn.Module], calls: dict[str, int], channels: int
) -> tuple[str | None, tuple[str, ...]]:
    """Return the 1x1 convolution reached from `node` through elementwise operations, and the gates passed by.

    Gates are the two convolutions of a squeeze-and-excite; one may stand on the way.
    """

    def transparent(user: fx.Node) -> bool:
        if user.op == "call_module":
            return isinstance(modules[str(user.target)], _TRANSPARENT)
        return user.target in _TRANSPARENT_FUNCTIONS

    gates: tuple[str, ...] = ()
    while True:
        user = _only_user(node)
        if user is None:
            scaled = squeeze_excite(node, modules, transparent, channels)
            if scaled is None or gates or any(calls[name] != 1 for name in scaled[0]):
                return None, ()
            gates, node = scaled
            continue
        module = modules[str(user.target)] if user.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            plain = module.kernel_size == (1, 1) and module.groups == 1 and module.in_channels == channels
            return (str(user.target), gates) if plain and calls[str(user.target)] == 1 else (None, ())
        if not transparent(user):
            return None, ()
        node = user


def _padding(node: fx.Node, modules: dict[str, nn.Module], calls: dict[str, int]) -> str | None:
    """Return the ``nn.ZeroPad2d`` whose result a convolution alone consumes."""
    before = node.args[0] if node.args else None
    if not isinstance(before, fx.Node) or before.op != "call_module" or _only_user(before) is not node:
        return None
    name = str(before.target)
    return name if isinstance(modules[name], nn.ZeroPad2d) and calls[name] == 1 else None


def depthwise_blocks(model: nn.Module) -> list[DepthwiseBlock]:
    """Return a network's depthwise KxK convolutions, in order of execution.

    Raises
    ------
    ConvertError
        If the network cannot be traced.
    """
    modules = dict(model.named_modules())
    called = [node for node in _trace(model).nodes if node.op == "call_module"]
    calls: dict[str, int] = {}
    for node in called:
        calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    blocks: list[DepthwiseBlock] = []
    for node in called:
        name = str(node.target)
        conv = modules[name]
        if not _is_depthwise(conv) or any(block.name == name for block in blocks):
            continue
        pad = _padding(node, modules, calls)
        problem = _geometry_problem(conv, modules[pad] if pad else None)
        if calls[name] > 1:
            problem = "the module is called more than once"
        bn = act = pointwise = None
        gates: tuple[str, ...] = ()
        user = _only_user(node)
        if user is not None and user.op == "call_module" and isinstance(modules[str(user.target)], nn.BatchNorm2d):
            bn, last = str(user.target), user
            user = _only_user(user)
            # an activation instance that is called elsewhere too stays where it is, behind the concatenation
            single = user is not None and user.op == "call_module" and calls[str(user.target)] == 1
            if user is not None and single and isinstance(modules[str(user.target)], _ELEMENTWISE):
                act, last = str(user.target), user
            pointwise, gates = _pointwise(last, modules, calls, conv.in_channels)
            if problem is None and calls[bn] > 1:
                problem = f"its batch normalisation {bn!r} is called more than once"
        elif problem is None:
            problem = "no BatchNorm2d alone follows it (is the batch normalisation already folded?)"
        blocks.append(DepthwiseBlock(len(blocks), name, bn, act, pointwise, problem, gates, pad))
    return blocks


def _select(blocks: list[DepthwiseBlock], layers: Iterable[int | str] | None, variant: Variant) -> list[DepthwiseBlock]:
    def reason(block: DepthwiseBlock) -> str | None:
        if block.problem is None and variant == "full" and block.pointwise is None:
            return (
                "no single 1x1 convolution follows it, directly or behind squeeze-and-excite (two 1x1 convolutions), "
                "which full would widen to 2C inputs; use half"
            )
        return block.problem

    listing = ", ".join(f"{block.index} {block.name!r}" for block in blocks) or "none"
    if layers is None:
        good = [block for block in blocks if reason(block) is None]
        if not good:
            why = "; ".join(f"{block.name!r}: {reason(block)}" for block in blocks) or "there is none"
            raise ConvertError(f"no depthwise convolution can be converted to {variant}: {why}")
        return good
    chosen: list[DepthwiseBlock] = []
    for key in layers:
        if isinstance(key, int):
            found = [block for block in blocks if block.index == key]
        else:
            found = [block for block in blocks if block.name == key or block.name.startswith(f"{key}.")]
        if len(found) != 1:
            what = "no depthwise convolution" if not found else f"{len(found)} depthwise convolutions"
            raise ConvertError(f"layer {key!r} names {what}; the network has {listing}")
        block = found[0]
        if (why := reason(block)) is not None:
            raise ConvertError(f"layer {key!r} ({block.name!r}) cannot be converted to {variant}: {why}")
        if block in chosen:
            raise ConvertError(f"layer {key!r} ({block.name!r}) is selected twice")
        chosen.append(block)
    return sorted(chosen, key=lambda block: block.index)


def _parent(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def _fill(model: nn.Module, block: DepthwiseBlock, fuse: FuSeConv2d) -> None:
    """Put `fuse` in the place of padding, convolution, normalisation and activation."""
    assert block.bn is not None
    names = [name for name in (block.pad, block.name, block.bn, block.act) if name]
    parents = {name.rpartition(".")[0] for name in names}
    parent = model.get_submodule(parents.pop()) if len(parents) == 1 else None
    path = block.name.rpartition(".")[0]
    whole = isinstance(parent, nn.Sequential) and len(parent) == len(names)
    if whole and path:
        owner, leaf = _parent(model, path)
        setattr(owner, leaf, fuse)
        return
    for name in names:
        owner, leaf = _parent(model, name)
        setattr(owner, leaf, fuse if name == block.name else nn.Identity())


def _widen(model: nn.Module, name: str, init: Init, *, outputs: bool = False) -> None:
    """Double a 1x1 convolution's inputs (and its outputs, for a gate).

    Its old weights, halved, serve both copies of the inputs; doubled outputs are equal.
    """
    owner, leaf = _parent(model, name)
    old = model.get_submodule(name)
    assert isinstance(old, nn.Conv2d)
    times = 2 if outputs else 1
    new = nn.Conv2d(
        2 * old.in_channels, times * old.out_channels, 1, old.stride, old.padding, bias=old.bias is not None
    )
    if init == "middle":
        with torch.no_grad():
            new.weight.copy_(old.weight.repeat(times, 2, 1, 1) / 2)
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias.repeat(times))
    setattr(owner, leaf, new.to(old.weight))


def convert(
    model: nn.Module,
    variant: Variant,
    layers: Iterable[int | str] | None = None,
    *,
    init: Init = "random",
) -> nn.Module:
    """Return a copy of a network with depthwise convolutions replaced by FuSeConv.

    A depthwise KxK convolution, the batch normalisation behind it and the activation module behind that become one
    :class:`~sw.nn.fuse.FuSeConv2d` (in place of the enclosing ``nn.Sequential`` if it holds nothing else; otherwise in
    the convolution's place, with identities in the other two).  An ``nn.ZeroPad2d`` before it is taken over; if that is
    TensorFlow's SAME padding for stride 2 and an even size, the filters move by the pixel that FuSeConv pads in front.

    *full* also widens the pointwise convolution that follows, and the convolutions of a squeeze-and-excite between the
    two, which then sees 2C channels at the same reduction.  Nothing changes places: an activation behind the
    squeeze-and-excite stays behind it, which is the order of the FuSeConv paper (normalisation, concatenation,
    squeeze-and-excite, activation).

    Parameters
    ----------
    model
        Any network that ``torch.fx`` can trace; it is not changed.
    variant
        ``"half"`` or ``"full"``.
    layers
        Indices (see :func:`depthwise_blocks`) or names of depthwise convolutions or of modules that enclose exactly
        one; all that can be converted if None.  The paper's hybrids are e.g. ``range(1, 10)`` for MobileNetV2.
    init
        ``"random"``: torch's default initialisation.  ``"middle"``: filters from the middle row and column of the
        depthwise kernel, normalisation copied, widened pointwise and gate weights halved (the state NOS starts from).

    Raises
    ------
    ConvertError
        If the network cannot be traced, a layer does not exist, is ambiguous, selected twice or unsuitable, or
        nothing can be converted.
    ValueError
        If `variant` or `init` is unknown.
    """
    for value, kinds, what in ((variant, Variant, "variant"), (init, Init, "init")):
        if value not in get_args(kinds):
            raise ValueError(f"{what} {value!r} is unknown; use one of {', '.join(get_args(kinds))}")
    chosen = _select(depthwise_blocks(model), layers, variant)
    result = copy.deepcopy(model)
    for block in chosen:
        conv, bn = result.get_submodule(block.name), result.get_submodule(block.bn or "")
        assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)
        act = result.get_submodule(block.act) if block.act else None
        try:
            fuse = FuSeConv2d(
                conv.in_channels,
                conv.kernel_size[0],
                stride=(conv.stride[0], conv.stride[1]),
                variant=variant,
                activation=act,
                eps=bn.eps,
                momentum=bn.momentum,
            )
        except ValueError as error:
            raise ConvertError(f"layer {block.name!r} cannot be converted to {variant}: {error}") from None
        fuse.to(conv.weight).train(conv.training)
        if init == "middle":
            fuse.init_from_depthwise(conv, bn)
        _fill(result, block, fuse)
        if variant == "full" and block.pointwise is not None:
            for name in block.gates:
                _widen(result, name, init, outputs=True)
            _widen(result, block.pointwise, init)
    return result
