"""Conversion of depthwise networks to FuSeConv."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.nn.convert import ConvertError, convert, depthwise_blocks
from sw.nn.count import count, parameters
from sw.nn.digits import INPUT_SHAPE, DigitsNet
from sw.nn.fuse import FuSeConv2d

torch.set_num_threads(1)


class Flat(nn.Module):
    """Layers side by side, functional activation, odd channel count; options make it unsuitable."""

    def __init__(self, *, depthwise: nn.Conv2d | None = None, twice: bool = False, pointwise: bool = True) -> None:
        super().__init__()
        self.dw = depthwise or nn.Conv2d(7, 7, 3, padding=1, groups=7, bias=True)
        self.bn = nn.BatchNorm2d(self.dw.out_channels)
        self.pw = nn.Conv2d(self.dw.out_channels, 4, 1 if pointwise else 3, padding=0 if pointwise else 1)
        self.twice = twice

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.dw(x))
        if self.twice:
            x = self.bn(self.dw(x))
        return self.pw(F.relu(x))


class Direct(nn.Module):
    """A chain whose activation module directly follows, and serves both blocks if `shared`."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.dw1, self.bn1 = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6)
        self.pw1 = nn.Conv2d(6, 6, 1)
        self.dw2, self.bn2 = nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False), nn.BatchNorm2d(6)
        self.pw2 = nn.Conv2d(6, 3, 1)
        self.act1 = nn.ReLU()
        self.act2 = self.act1 if shared else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pw1(self.act1(self.bn1(self.dw1(x))))
        return self.pw2(self.act2(self.bn2(self.dw2(x))))


class Gated(nn.Module):
    """Squeeze-and-excite behind a depthwise convolution, before or behind the activation; options spoil it."""

    def __init__(
        self, *, late: bool, mean: str = "module", spoil: str = "", squeeze_groups: int = 1, layers: int = 2
    ) -> None:
        super().__init__()
        self.dw, self.bn = nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False), nn.BatchNorm2d(6)
        self.act = nn.Hardswish()
        self.pool = nn.AdaptiveAvgPool2d(2 if spoil == "pool" else 1)
        self.fc1 = nn.Conv2d(6, 4 * squeeze_groups, 1, groups=squeeze_groups)
        self.fc2 = nn.Conv2d(4 * squeeze_groups, 6, 1) if layers == 2 else nn.Conv2d(4, 6, 1)
        self.pw = nn.Conv2d(6, 3, 1)
        self.late, self.mean, self.spoil, self.layers = late, mean, spoil, layers

    def gate(self, x: Tensor) -> Tensor:
        if self.mean == "module":
            m = self.pool(x)
        elif self.mean == "function":
            m = F.adaptive_avg_pool2d(x, 1)
        else:
            m = x.mean((2, 3), keepdim=True)
        m = F.relu(self.fc1(m))
        if self.layers == 3:
            m = self.fc1(self.fc2(m))
        return F.interpolate(m, 2) if self.spoil == "between" else F.hardsigmoid(self.fc2(m))

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.dw(x))
        x = x if self.late else self.act(x)
        g = self.gate(x)
        y = F.interpolate(g, x.shape[2:]) * x if self.spoil == "pool" else x * g
        if self.spoil == "user":
            y = y + x
        if self.spoil == "gate":
            y = y + g
        return self.pw(self.act(y) if self.late else y)


class Residual(nn.Module):
    """Adds its input to what it wraps, where shapes allow it."""

    def __init__(self, body: nn.Module, shortcut: bool) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def conv_bn(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]


def mobilenet_v1() -> nn.Module:
    """Howard et al., arXiv 1704.04861, table 1."""
    layers, cin = [*conv_bn(3, 32, 3, 2), nn.ReLU()], 32
    for cout, stride in (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ):
        layers += [*conv_bn(cin, cin, 3, stride, cin), nn.ReLU(), *conv_bn(cin, cout), nn.ReLU()]
        cin = cout
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, 1000))


def mobilenet_v2() -> nn.Module:
    """Sandler et al., arXiv 1801.04381, table 2."""
    layers, cin = [*conv_bn(3, 32, 3, 2), nn.ReLU6(inplace=True)], 32
    for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                       (6, 320, 1, 1)):  # fmt: skip
        for i in range(n):
            stride = s if i == 0 else 1
            expand = [*conv_bn(cin, t * cin), nn.ReLU6(inplace=True)] if t > 1 else []
            spatial = [*conv_bn(t * cin, t * cin, 3, stride, t * cin), nn.ReLU6(inplace=True)]
            body = nn.Sequential(*expand, *spatial, *conv_bn(t * cin, c))
            layers.append(Residual(body, stride == 1 and cin == c))
            cin = c
    layers += [*conv_bn(cin, 1280), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(1280, 1000))


def centre_only(model: nn.Module) -> nn.Module:
    """Leave only the centre tap of depthwise kernels, so that rows, columns and kernels are the same function."""
    for block in depthwise_blocks(model):
        conv = model.get_submodule(block.name)
        k = conv.kernel_size[0] // 2
        with torch.no_grad():
            centre = conv.weight[:, :, k, k].clone()
            conv.weight.zero_()
            conv.weight[:, :, k, k] = centre
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def test_finds_the_blocks_of_the_digits_network() -> None:
    blocks = depthwise_blocks(DigitsNet())
    assert [block.name for block in blocks] == [f"blocks.{i}.spatial.0" for i in range(4)]
    assert [block.index for block in blocks] == [0, 1, 2, 3]
    assert all(block.problem is None for block in blocks)
    assert blocks[2].bn == "blocks.2.spatial.1" and blocks[2].act == "blocks.2.spatial.2"
    assert blocks[2].pointwise == "blocks.2.project.0"


@pytest.mark.parametrize("variant", ["half", "full"])
@pytest.mark.parametrize("build", [DigitsNet, Flat, lambda: Direct(False), lambda: Direct(True)])
def test_middle_initialisation_keeps_centre_tap_networks(variant, build) -> None:
    torch.manual_seed(0)
    model = centre_only(build())
    channels = next(m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(2, channels, 32, 32)
    converted = convert(model, variant, init="middle")
    assert not depthwise_blocks(converted)
    torch.testing.assert_close(converted(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["half", "full"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("mean", ["module", "function", "method"])
def test_squeeze_excite_keeps_its_place_and_sees_all_channels(variant, late, mean) -> None:
    torch.manual_seed(0)
    model = centre_only(Gated(late=late, mean=mean))
    (block,) = depthwise_blocks(model)
    assert block.pointwise == "pw" and block.gates == ("fc1", "fc2")
    assert block.act == (None if late else "act")
    converted = convert(model, variant, init="middle")
    widths = (converted.fc1.in_channels, converted.fc1.out_channels, converted.fc2.out_channels)
    assert widths == ((12, 8, 12) if variant == "full" else (6, 4, 6))
    # the activation stays on its side of the gate
    assert isinstance(converted.act, nn.Hardswish if late else nn.Identity)
    assert hasattr(converted.dw.row, "act") != late
    x = torch.randn(2, 6, 9, 9)
    torch.testing.assert_close(converted(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"spoil": "user"},  # the ungated tensor is used again
        {"spoil": "gate"},  # the gate is used again
        {"spoil": "pool"},  # four gates per channel
        {"spoil": "between"},  # something that is not elementwise makes the gate
        {"squeeze_groups": 2},
        {"layers": 3},  # and the first is called twice
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_full_needs_a_plain_squeeze_excite(spoilt, late) -> None:
    model = Gated(late=late, **spoilt)
    assert isinstance(convert(model, "half").dw, FuSeConv2d)
    with pytest.raises(ConvertError, match="'dw'.*no single 1x1 convolution follows it, directly or behind squeeze"):
        convert(model, "full")


@pytest.mark.parametrize(("stride", "padding"), [(1, (1, 1, 1, 1)), (2, (1, 1, 1, 1)), (2, (0, 1, 0, 1))])
def test_padding_before_the_convolution_is_taken_over(stride, padding) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 4, 3, stride, groups=4), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 3, 1)]
    model = centre_only(nn.Sequential(nn.ZeroPad2d(padding), *layers))
    assert depthwise_blocks(model)[0].pad == "0"
    converted = convert(model, "half", init="middle")
    assert [type(module) for module in converted][:4] == [nn.Identity, FuSeConv2d, nn.Identity, nn.Identity]
    x = torch.randn(1, 4, 8, 8)
    # without the zero in front, filters are centred on odd pixels
    shifted = x if padding[0] else torch.roll(x, (-1, -1), (2, 3))
    torch.testing.assert_close(converted(shifted), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("stride", "padding", "own"),
    [(1, (0, 1, 0, 1), 0), (2, (0, 1, 1, 1), 0), (2, (1, 0, 1, 0), 0), (1, (2, 2, 2, 2), 0), (1, (1, 1, 1, 1), 1)],
)
def test_refuses_other_padding_before_the_convolution(stride, padding, own) -> None:
    depthwise = nn.Conv2d(4, 4, 3, stride, own, groups=4)
    model = nn.Sequential(nn.ZeroPad2d(padding), depthwise, nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1))
    with pytest.raises(ConvertError, match=r"'1': padding \(\d, \d, \d, \d\) and \(\d, \d\); 1 zeros on both axes"):
        convert(model, "half")


def test_the_original_is_unchanged() -> None:
    model = DigitsNet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    convert(model, "full", init="middle")
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_macs_and_parameters() -> None:
    base, half, full = (
        {layer.name: layer for layer in count(model, INPUT_SHAPE)}
        for model in (DigitsNet(), convert(DigitsNet(), "half"), convert(DigitsNet(), "full"))
    )
    # block 2: 72 hidden channels, K = 5, stride 2 from 16x16 to 8x8, 32 outputs
    assert base["blocks.2.spatial.0"].macs == 72 * 25 * 64
    assert half["blocks.2.spatial.row.conv"].macs == half["blocks.2.spatial.column.conv"].macs == 36 * 5 * 64
    assert full["blocks.2.spatial.row.conv"].macs == 72 * 5 * 64
    assert full["blocks.2.project.0"].macs == 2 * base["blocks.2.project.0"].macs == 2 * 72 * 32 * 64
    assert base["classifier"].macs == 960 and base["classifier"].parameters == 970
    kernels = sum(hidden * k * (k - 1) for hidden, k in ((32, 3), (72, 3), (72, 5), (96, 5)))
    assert parameters(DigitsNet()) - parameters(convert(DigitsNet(), "half")) == kernels


@pytest.mark.parametrize(
    ("build", "base", "full", "half"), [(mobilenet_v1, 4.23, 7.36, 4.20), (mobilenet_v2, 3.50, 4.46, 3.46)]
)
def test_parameters_of_the_papers_networks(build, base, full, half) -> None:
    """The table of Selvam, Ganesan and Kumar (DATE 2021), in millions."""
    model = build()
    found = [parameters(model), parameters(convert(model, "full")), parameters(convert(model, "half"))]
    assert [count / 1e6 for count in found] == pytest.approx([base, full, half], abs=0.011)


def test_hybrid_of_mobilenet_v2() -> None:
    hybrid = convert(mobilenet_v2(), "half", layers=range(1, 10))
    assert sum(isinstance(module, FuSeConv2d) for module in hybrid.modules()) == 9
    assert len(depthwise_blocks(hybrid)) == 17 - 9
    assert hybrid.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_layers_by_index_name_and_enclosing_name() -> None:
    model = DigitsNet()
    for layers in ([1, 3], ["blocks.3", "blocks.1.spatial.0"], (i for i in (3, 1))):
        hybrid = convert(model, "half", layers=layers)
        fused = [i for i in range(4) if isinstance(hybrid.blocks[i].spatial, FuSeConv2d)]
        assert fused == [1, 3]
        assert [block.name for block in depthwise_blocks(hybrid)] == ["blocks.0.spatial.0", "blocks.2.spatial.0"]
    assert hybrid(torch.zeros(2, *INPUT_SHAPE)).shape == (2, 10)


def test_convolution_outside_a_sequential_leaves_identities() -> None:
    model = convert(Flat(), "half")
    assert isinstance(model.dw, FuSeConv2d) and isinstance(model.bn, nn.Identity)
    assert (model.dw.row_channels, model.dw.column_channels) == (3, 4)


def test_a_shared_activation_stays_where_it_is() -> None:
    shared, own = convert(Direct(True), "half"), convert(Direct(False), "half")
    assert isinstance(shared.act1, nn.ReLU) and not hasattr(shared.dw1.row, "act")
    assert isinstance(own.act1, nn.Identity) and isinstance(own.dw1.row.act, nn.ReLU)


def test_half_needs_no_pointwise_but_full_does() -> None:
    model = Flat(pointwise=False)
    assert convert(model, "half")(torch.zeros(1, 7, 8, 8)).shape == (1, 4, 8, 8)
    with pytest.raises(ConvertError, match=r"'dw'.*no single 1x1 convolution follows it"):
        convert(model, "full", layers=["dw"])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([4], r"layer 4 names no depthwise convolution; the network has 0 'blocks.0.spatial.0'"),
        (["head"], "layer 'head' names no depthwise convolution"),
        (["blocks"], "layer 'blocks' names 4 depthwise convolutions"),
        ([0, "blocks.0"], r"layer 'blocks.0' \('blocks.0.spatial.0'\) is selected twice"),
    ],
)
def test_refuses_a_wrong_selection(layers, message) -> None:
    with pytest.raises(ConvertError, match=message):
        convert(DigitsNet(), "half", layers=layers)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Flat(depthwise=nn.Conv2d(7, 7, 4, padding=2, groups=7)), "'dw': kernel 4x4; it must be square and odd"),
        (Flat(depthwise=nn.Conv2d(7, 7, 3, padding=0, groups=7)), r"'dw': padding \(0, 0\) \(zeros\); 1 zeros"),
        (Flat(depthwise=nn.Conv2d(7, 7, 3, padding=2, dilation=2, groups=7)), "'dw': dilation"),
        (Flat(depthwise=nn.Conv2d(7, 14, 3, padding=1, groups=7)), "'dw': channel multiplier 2"),
        (Flat(twice=True), "'dw': the module is called more than once"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU()), "'0': no BatchNorm2d alone follows it"),
        (nn.Sequential(nn.Conv2d(4, 8, 1)), "no depthwise convolution can be converted to half: there is none"),
    ],
)
def test_refuses_unsuitable_layers(model, message) -> None:
    with pytest.raises(ConvertError, match=message):
        convert(model, "half")


def test_refuses_what_torch_fx_cannot_trace() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ConvertError, match=r"Branching cannot be traced by torch\.fx"):
        convert(Branching(), "half")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "quarter"}, "variant 'quarter' is unknown; use one of half, full"),
        ({"variant": "half", "init": "zero"}, "init 'zero' is unknown; use one of random, middle"),
    ],
)
def test_refuses_unknown_options(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        convert(DigitsNet(), **arguments)
