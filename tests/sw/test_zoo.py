"""The zoo: sizes, names, variants, weights."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from sw.nn import zoo
from sw.nn.convert import convert, depthwise_blocks
from sw.nn.count import count, parameters
from sw.nn.fuse import FuSeConv2d
from sw.nn.weights import WeightsError, save_weights
from sw.nn.zoo import table
from sw.nn.zoo.checkpoint import rename_efficientnet_pytorch
from sw.nn.zoo.efficientnet import LITE0
from sw.nn.zoo.layers import divisible, same_padding
from sw.nn.zoo.mobilenet_v3 import SqueezeExcitation

torch.set_num_threads(1)

DOCUMENT = Path(__file__).parents[2] / "docs" / "zoo.md"
BASES = [name for name in zoo.names() if ":" not in name]

PUBLISHED = {
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_small": 2_542_856,
    "mobilenet_v3_large": 5_483_032,
    "mnasnet_b1": 4_383_312,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_edgetpu_s": 5_438_392,
    "resnet50": 25_557_032,
    "mobilenet_v2_cifar": 2_236_682,  # MobileNetV2's, with 10 classes
    "mobilenet_v1_cifar": 3_217_226,  # MobileNetV1's, with 10 classes
}
"""Parameters that torchvision and timm state for the networks whose names these have."""

STATES = {
    "mobilenet_v1": ("conv_stem.weight", "blocks.3.5.conv_pw.weight", "blocks.4.1.bn2.bias", "classifier.weight"),
    "mobilenet_v2": ("features.0.0.weight", "features.1.conv.0.1.bias", "features.17.conv.3.bias", "classifier.1.bias"),
    "mobilenet_v3_small": ("features.1.block.1.fc1.bias", "features.12.1.running_var", "classifier.3.weight"),
    "mobilenet_v3_large": ("features.1.block.0.0.weight", "features.15.block.2.fc2.weight", "features.16.0.weight"),
    "mnasnet_b1": ("layers.0.weight", "layers.3.weight", "layers.12.3.layers.7.bias", "layers.15.weight"),
    "efficientnet_lite0": ("blocks.0.0.conv_pw.weight", "blocks.6.0.conv_pwl.weight", "conv_head.weight", "bn2.bias"),
    "efficientnet_edgetpu_s": ("blocks.0.0.conv_exp.weight", "blocks.5.1.bn3.weight", "conv_head.weight"),
    "mobilenet_v2_cifar": ("features.0.0.weight", "features.17.conv.3.bias", "classifier.1.bias"),
    "mobilenet_v1_cifar": ("conv_stem.weight", "blocks.3.5.conv_pw.weight", "blocks.4.1.bn2.bias", "classifier.weight"),
    "resnet50": ("bn1.bias", "layer1.0.downsample.1.bias", "layer4.2.conv3.weight", "fc.bias"),
}


@cache
def meta(name: str, **arguments) -> nn.Module:
    """Return a network without memory for its weights; shared, not to be changed."""
    with torch.device("meta"):
        return zoo.create(name, **arguments)


def fused(network: nn.Module) -> list[FuSeConv2d]:
    return [module for module in network.modules() if isinstance(module, FuSeConv2d)]


def test_names_are_unique_and_complete() -> None:
    names = zoo.names()
    assert len(set(names)) == len(names) and set(PUBLISHED) == set(BASES)
    for base in BASES[:5]:  # the paper's networks
        assert {f"{base}:fuse_{kind}{part}" for kind in ("half", "full") for part in ("", "_50")} < set(names)
    assert "resnet50:fuse_half" not in names


@pytest.mark.parametrize("name", BASES)
def test_parameters_and_their_names_are_the_published_ones(name: str) -> None:
    network = meta(name)
    assert parameters(network) == PUBLISHED[name]
    assert set(STATES[name]) <= set(network.state_dict())


@pytest.mark.parametrize("name", table.PAPER)
def test_parameters_of_the_paper(name: str) -> None:
    network = meta(name)
    total = parameters(network) + sum(table.explained(network).values())
    assert math.floor(total / 1e4) / 100 == table.PAPER[name]


def test_only_mobilenet_v3_differs_from_the_paper() -> None:
    differing = {name.partition(":")[0] for name in table.PAPER if table.explained(meta(name))}
    assert differing == {"mobilenet_v3_small", "mobilenet_v3_large"}


@pytest.mark.slow
def test_document_has_the_tables() -> None:
    text = DOCUMENT.read_text()
    assert table.update(text) == text
    assert all(f"| `{name}` |" in text for name in zoo.names())


@pytest.mark.parametrize(
    ("name", "millions"),
    [("mobilenet_v1", 569), ("mobilenet_v2", 301), ("mobilenet_v3_large", 217), ("resnet50", 4089)],
)
def test_macs_are_the_published_ones(name: str, millions: int) -> None:
    """Howard et al. (arXiv 1704.04861) for the first, torchvision for the others."""
    with torch.device("meta"):
        macs = sum(layer.macs for layer in count(meta(name), (3, 224, 224)))
    assert round(macs / 1e6) == millions


def test_table_refuses_a_document_without_markers(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.md").write_text("text")
    with pytest.raises(SystemExit, match="2"):
        table.main(["--update", str(tmp_path / "a.md")])
    assert "lacks the line" in capsys.readouterr().err
    assert (tmp_path / "a.md").read_text() == "text"


@pytest.mark.parametrize("name", [name for name in zoo.names() if not name.endswith("_50")])
def test_forward(name: str) -> None:
    torch.manual_seed(0)
    network = zoo.create(name, width=0.25, resolution=64, classes=7).eval()
    with torch.no_grad():
        logits = network(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 7) and torch.isfinite(logits).all()
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", BASES)
def test_metadata(name: str) -> None:
    about = zoo.metadata(name, resolution=96)
    network = meta(name)
    assert about.depthwise_blocks == len(depthwise_blocks(network)) and about.fused == ()
    entry = about.to_json()
    assert entry["shape"] == [3, 96, 96]
    # black and white lie a few deviations around zero, whatever the range
    ends = [(value - entry["mean"][0]) / entry["std"][0] for value in entry["range"]]
    assert -2.5 < ends[0] < -0.9 and 0.9 < ends[1] < 2.5


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("mobilenet_v1:fuse_half_50", [0, 1, 2, 3, 4]),
        ("mobilenet_v2:fuse_full_50", list(range(1, 10))),
        ("mnasnet_b1:fuse_half_50", list(range(1, 10))),
        ("mobilenet_v3_large:fuse_full_50", list(range(1, 8))),
        ("mobilenet_v3_small:fuse_half_50", [2, 4, 5, 6, 7]),
        ("efficientnet_lite0:fuse_half[0]", [0]),
        ("efficientnet_lite0:fuse_full[1,3-5, 8]", [1, 3, 4, 5, 8]),
        ("mobilenet_v2:fuse_half", list(range(17))),
    ],
)
def test_the_named_blocks_are_replaced(name: str, blocks: list[int]) -> None:
    base = [block.name for block in depthwise_blocks(meta(name.partition(":")[0]))]
    network = meta(name)
    left = [block.name for block in depthwise_blocks(network)]
    assert list(zoo.metadata(name).fused) == blocks
    assert len(fused(network)) == len(blocks)
    assert left == [depthwise for index, depthwise in enumerate(base) if index not in blocks]
    assert {module.variant for module in fused(network)} == {"half" if "half" in name else "full"}


def test_full_squeeze_excite_sees_both_branches_before_the_activation() -> None:
    network = zoo.create("mobilenet_v3_large:fuse_full[3]", width=0.5, resolution=32)
    block = network.features[4].block
    fuse, scale = block[1], block[2]
    assert isinstance(fuse, FuSeConv2d) and isinstance(scale, SqueezeExcitation)
    hidden, squeezed = divisible(36), divisible(divisible(36) // 4)
    assert scale.fc1.weight.shape == (2 * squeezed, 2 * hidden, 1, 1) and scale.fc1.bias.shape == (2 * squeezed,)
    assert scale.fc2.weight.shape == (2 * hidden, 2 * squeezed, 1, 1) and scale.fc2.bias.shape == (2 * hidden,)
    assert isinstance(scale.output, nn.ReLU) and not hasattr(fuse.row, "act")
    # blocks that stay keep the published order
    kept = network.features[5].block
    assert isinstance(kept[1][2], nn.ReLU) and kept[2].output is None


def test_half_puts_squeeze_excite_before_the_activation() -> None:
    network = zoo.create("mobilenet_v3_small:fuse_half[0,4]", width=0.5)
    for index, kind in ((0, nn.ReLU), (4, nn.Hardswish)):
        fuse, scale = network.features[index + 1].block[-3:-1]
        assert isinstance(fuse, FuSeConv2d) and isinstance(scale.output, kind) and not hasattr(fuse.row, "act")


def test_same_padding_is_tensorflows() -> None:
    """SAME: ceil(size / stride) outputs, the odd zero at the end."""
    assert same_padding(224, 3, 2) == (0, 1) and same_padding(112, 5, 2) == (1, 2)
    assert same_padding(7, 3, 2) == (1, 1) and same_padding(56, 5, 1) == (2, 2)
    network = zoo.create("efficientnet_lite0", resolution=64)
    pads = {name: module.padding for name, module in network.named_modules() if isinstance(module, nn.ZeroPad2d)}
    assert pads == {
        "pad": (0, 1, 0, 1),
        "blocks.1.0.pad": (0, 1, 0, 1),
        "blocks.2.0.pad": (1, 2, 1, 2),
        "blocks.3.0.pad": (0, 1, 0, 1),
        "blocks.5.0.pad": (1, 2, 1, 2),
    }
    centred = zoo.create("efficientnet_lite0:fuse_half", resolution=64)
    assert [name for name, module in centred.named_modules() if isinstance(module, nn.ZeroPad2d)] == ["pad"]


@pytest.mark.parametrize("base", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_lite0"])
@pytest.mark.parametrize("kind", ["half", "full"])
def test_converting_a_network_gives_the_variants_parameters(base: str, kind: str) -> None:
    converted = convert(meta(base), kind).state_dict()
    variant = meta(f"{base}:fuse_{kind}").state_dict()
    assert {name: value.shape for name, value in converted.items()} == {n: v.shape for n, v in variant.items()}


def test_width_scales_channels() -> None:
    assert [divisible(c) for c in (3, 12, 16 * 0.75, 33, 36, 43.2, 24 * 1.4)] == [8, 16, 16, 32, 40, 40, 32]
    half, full = meta("mobilenet_v2", width=0.5), meta("mobilenet_v2", width=1.4)
    assert half.classifier[1].in_features == 1280 and full.classifier[1].in_features == 1792
    assert half.features[0][0].out_channels == 16 and meta("efficientnet_lite0", width=2).conv_stem.out_channels == 32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenet_v4", "no network 'mobilenet_v4' in the zoo; there are mobilenet_v1, "),
        ("mobilenet_v2:half", "variant 'half' is unknown; use fuse_half or fuse_full"),
        ("mobilenet_v2:", "variant '' is unknown"),
        ("mobilenet_v2:fuse_half_50[1]", "variant 'fuse_half_50.1.' is unknown"),
        ("mobilenet_v2:fuse_half[]", "'' is no block; write numbers and ranges"),
        ("mobilenet_v2:fuse_half[1,x]", "'x' is no block"),
        ("mobilenet_v2:fuse_half[0,17]", "there is no block '17'; the network has blocks 0 to 16"),
        ("mobilenet_v2:fuse_half[5-3]", "there is no block '5-3'"),
        ("mobilenet_v2:fuse_half[3,2-4]", "a block is listed twice"),
        ("resnet50:fuse_half", "no depthwise convolution that FuSeConv could replace; use 'resnet50'"),
        ("efficientnet_lite0:fuse_full_50", r"the paper defines no hybrid.*efficientnet_lite0:fuse_full\[0-3\]"),
    ],
)
def test_refuses_unknown_names(name: str, message: str) -> None:
    with pytest.raises(zoo.ZooError, match=message):
        zoo.create(name)


@pytest.mark.parametrize(
    ("field", "value"), [("width", 0), ("width", math.inf), ("resolution", 0), ("resolution", 1.5), ("classes", 0)]
)
def test_refuses_impossible_arguments(field: str, value: float) -> None:
    with pytest.raises(zoo.ZooError, match=rf"{field} {value} must be a "):
        zoo.create("mobilenet_v2", **{field: value})


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[nn.Module, Path]:
    """Return MobileNetV2 of width 0.25 with 5 classes, and its state in a file."""
    torch.manual_seed(1)
    network = zoo.create("mobilenet_v2", width=0.25, classes=5)
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(network.state_dict(), path)
    return network, path


def equal(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_weights_load_from_every_kind_of_file(small, tmp_path: Path) -> None:
    network, path = small
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "wrapped.pth")
    save_weights(network, tmp_path / "arrays.npz", {})
    old = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    torch.save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for file in (path, tmp_path / "wrapped.pth", tmp_path / "arrays.npz", tmp_path / "old.pth"):
        loaded = zoo.create("mobilenet_v2", width=0.25, classes=5, weights=file)
        assert equal(loaded, network) and not loaded.training


def test_efficientnet_lite_pytorch_names_are_translated() -> None:
    pairs = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_var": "bn1.running_var",
        "_blocks.0._bn1.bias": "blocks.0.0.bn1.bias",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.2._expand_conv.weight": "blocks.1.1.conv_pw.weight",
        "_blocks.2._depthwise_conv.weight": "blocks.1.1.conv_dw.weight",
        "_blocks.15._bn0.weight": "blocks.6.0.bn1.weight",
        "_blocks.15._bn2.weight": "blocks.6.0.bn3.weight",
        "_conv_head.weight": "conv_head.weight",
        "_bn1.bias": "bn2.bias",
        "_fc.bias": "classifier.bias",
    }
    assert set(pairs.values()) <= meta("efficientnet_lite0").state_dict().keys()
    unknown = ["_blocks.16._bn0.weight", "_blocks.x._bn0.weight", "_blocks", "_swish.weight"]
    state = {name: torch.tensor(index) for index, name in enumerate([*pairs, *unknown])}
    renamed = rename_efficientnet_pytorch(state, LITE0)
    assert list(renamed) == [*pairs.values(), *unknown]
    assert list(renamed.values()) == list(state.values())
    assert rename_efficientnet_pytorch(renamed, LITE0) is renamed


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mobilenet_v2", {"width": 0.25, "classes": 6}, r"'classifier.1.weight' is \(5, 1280\), not \(6, 1280\) "
         r"\(and 1 more\); pass classes=5"),
        ("mobilenet_v2", {"width": 0.5, "classes": 5}, "belong to no network of the zoo at width 0.5; it has the names "
         "of torchvision mobilenet_v2"),
        ("mnasnet_b1", {"width": 0.25, "classes": 5}, r"the file lacks 'layers.0.weight' \(and \d+ more\); the network "
         r"has no 'features.0.0.weight' \(and \d+ more\).*'mobilenet_v2': create that with classes=5"),
        ("mobilenet_v2:fuse_full", {"width": 0.25, "classes": 5}, "the file lacks 'features.1.conv.0.row.conv.weight'.*"
         r"in the file 'features.1.conv.1.weight' is .*convert\(network, 'full', init='middle'\)"),
    ],
)  # fmt: skip
def test_weights_of_another_network(small, name: str, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(WeightsError, match=rf"small\.pth does not fit {name}: .*{message}"):
        zoo.create(name, weights=small[1], **arguments)


def test_unreadable_weights(small, tmp_path: Path) -> None:
    files = {
        "text.pth": (b"no weights", "not a readable checkpoint .neither an archive of torch.save nor tensors alone"),
        "empty.pth": (b"", "not a readable checkpoint"),
        "cut.pth": (small[1].read_bytes()[:5000], "not a readable checkpoint"),
        "text.npz": (b"no weights", r"not a readable \.npz archive"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            zoo.create("mobilenet_v2", weights=tmp_path / name)
    with pytest.raises(WeightsError, match="no such weights file"):
        zoo.create("mobilenet_v2", weights=tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        zoo.create("mobilenet_v2", weights=tmp_path)
    for value in ([1, 2], {}, {"epoch": 3}):
        torch.save(value, tmp_path / "other.pth")
        with pytest.raises(WeightsError, match="holds no state dict"):
            zoo.create("mobilenet_v2", weights=tmp_path / "other.pth")


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"w": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        zoo.create("mobilenet_v2", weights=tmp_path / "evil.pth")
    assert not (tmp_path / "touched").exists()
