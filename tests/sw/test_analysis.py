"""Known results on systolic schedules, each schedule executed, and refusals with their reasons."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from sw.analysis.dependences import is_constant, is_regular, reuse, reuses
from sw.analysis.execute import execute, random_operands
from sw.analysis.operators import OPERATORS, operator
from sw.analysis.recurrences import Access, AnalysisError, Space, System, Term
from sw.analysis.report import argument, equations, implemented
from sw.analysis.schedule import FABRICS, allocation, best, search

ANY = FABRICS["neighbours"]


def systems() -> dict[str, System]:
    """All systems of all operators that are regular, im2col's too."""
    found = {}
    for name in OPERATORS:
        one = operator(name)
        for number, system in enumerate((*one.systems, *([one.im2col] if one.im2col else []))):
            if is_regular(system):
                found[f"{name}-{number}"] = system
    return found


SYSTEMS = systems()


def values(system: System, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {one.array: rng.integers(-128, 128, one.shape(system.space)) for one in system.operands}


# --- the recurrences are the operators


@pytest.mark.parametrize("size", [{}, {"M": 1, "N": 2, "K": 7}])
def test_matmul_is_numpys(size: dict[str, int]) -> None:
    system = operator("matmul", size).systems[0]
    given = values(system, 1)
    assert (system.reference(given) == given["A"] @ given["B"]).all()


def test_conv1d_is_numpys() -> None:
    system = operator("conv1d").systems[0]
    given = values(system, 2)
    assert (system.reference(given) == np.correlate(given["X"], given["F"], "valid")).all()


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_convolutions_are_numpys_flattened_or_not_and_by_im2col(kernel: int) -> None:
    depthwise, standard = operator("depthwise", {"K": kernel}), operator("conv2d", {"K": kernel})
    for one, sums in ((depthwise, "yxmn,mn->yx"), (standard, "cyxmn,ocmn->oyx")):
        flat, loops, im2col = one.systems[0], one.unflattened, one.im2col
        given = values(loops, kernel)
        windows = sliding_window_view(given["X"], (kernel, kernel), axis=(-2, -1))
        want = np.einsum(sums, windows, given["F"])
        assert (flat.reference(given) == want).all() and (loops.reference(given) == want).all()
        # im2col: row r of X' is the pixels that tap r multiplies
        columns = np.moveaxis(windows.reshape(-1, *windows.shape[-4:]), (3, 4), (1, 2))
        rows, filters = im2col.space.sizes[2], im2col.space.sizes[0]
        product_of = {"X'": columns.reshape(rows, -1), "F": given["F"].reshape(filters, rows)}
        assert (im2col.reference(product_of).reshape(want.shape) == want).all()


def test_pointwise_and_fuse_filters_are_numpys() -> None:
    row, column, pointwise = operator("fuse-full", {"H": 5}).systems
    for system in (row, column):
        given = values(system, 3)
        want = [np.correlate(line, taps, "valid") for line, taps in zip(given["X"], given["F"], strict=True)]
        assert (system.reference(given) == want).all()
    assert row.space.sizes == (4, 4, 3) and column.space.sizes == (4, 5, 3)
    given = values(pointwise, 4)
    assert (pointwise.reference(given) == np.einsum("oc,cyx->oyx", given["W"], given["X"])).all()


def test_fuse_half_halves_the_channels_and_full_doubles_those_of_the_pointwise() -> None:
    half, full = operator("fuse-half", {"C": 6}), operator("fuse-full", {"C": 6})
    assert [one.space.sizes[0] for one in half.systems] == [3, 3, 6]
    assert [one.space.sizes[0] for one in full.systems] == [6, 6, 6]
    assert (half.systems[2].space.sizes[2], full.systems[2].space.sizes[2]) == (6, 12)


# --- dependence vectors


def test_vectors_of_the_matrix_product_are_the_unit_vectors() -> None:
    assert [one.vectors for one in reuses(operator("matmul").systems[0])] == [((0, 0, 1),), ((0, 1, 0),), ((1, 0, 0),)]


def test_pixels_of_a_line_pass_against_the_taps() -> None:
    assert [one.vectors for one in reuses(operator("conv1d").systems[0])] == [((0, 1),), ((1, -1),), ((1, 0),)]


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_points_share_exactly_along_the_vectors(name: str) -> None:
    """In the box of a regular system: the same element if and only if the difference is a sum of its vectors."""
    for system in operator(name).systems:
        points = system.space.points()
        for one in reuses(system):
            if one.witness is None and len(one.vectors) == 1:
                elements = one.access.elements(system.space, points)
                same = (elements[:, None] == elements[None]).all(axis=2)
                apart = points[:, None] - points[None]
                axis = next(axis for axis, entry in enumerate(one.vectors[0]) if entry)
                steps = apart[..., axis] // one.vectors[0][axis]
                assert (same == (apart == steps[..., None] * np.array(one.vectors[0])).all(axis=2)).all()


class Equations:
    """Evaluates equations as they are printed."""

    def __init__(self, system: System, given: dict[str, np.ndarray]) -> None:
        lines = equations(system, reuses(system))
        self.system, self.given = system, given
        self.right = {line.partition("(")[0]: line.partition(" = ")[2] for line in lines}
        self.known: dict[tuple[str, tuple[int, ...]], int] = {}

    def value(self, array: str, point: tuple[int, ...]) -> int:
        if (array, point) not in self.known:
            self.known[array, point] = self.expression(self.right[array], point)
        return self.known[array, point]

    def expression(self, text: str, point: tuple[int, ...]) -> int:
        if array := re.fullmatch(r"\(?(.*?)\)? \+ (.*) \* (.*)", text):
            before, left, right = (self.expression(part, point) for part in array.groups())
            return before + left * right
        names = dict(zip(self.system.space.names, point, strict=True))
        for choice in text.split(" or "):
            if choice == "0":
                return 0
            array, bracket, indices = re.fullmatch(r"([\w']+)([(\[])(.*)[)\]]", choice).groups()
            place = eval(f"({indices},)", names)
            if bracket == "[":
                return int(self.given[array][place])
            if self.system.space.contains(np.array([place]))[0]:
                return self.value(array, place)
        raise AssertionError(text)


@pytest.mark.parametrize("name", SYSTEMS)
def test_equations_compute_what_numpy_does(name: str) -> None:
    system = SYSTEMS[name]
    given = values(system, 5)
    evaluated = Equations(system, given)
    want = system.reference(given)
    output = reuses(system)[0]
    (vector,) = output.vectors
    ends = 0
    for point in system.space.points():
        if not system.space.contains(point + np.array(vector))[()]:
            ends += 1
            (element,) = output.access.elements(system.space, point[None])
            assert evaluated.value(output.access.array, tuple(point)) == want[tuple(element)]
    assert ends == want.size


def test_equations_of_the_matrix_product() -> None:
    system = operator("matmul").systems[0]
    assert equations(system, reuses(system)) == [
        "A(i, j, k) = A(i, j - 1, k) or A[i, k]",
        "B(i, j, k) = B(i - 1, j, k) or B[k, j]",
        "C(i, j, k) = (C(i, j, k - 1) or 0) + A(i, j, k) * B(i, j, k)",
    ]


@pytest.mark.parametrize(("height", "width", "kernel"), [(4, 4, 3), (2, 2, 2), (1, 3, 3), (3, 4, 4)])
def test_depthwise_is_refused_with_the_reason(height: int, width: int, kernel: int) -> None:
    system = operator("depthwise", {"H": height, "W": width, "K": kernel}).systems[0]
    output, pixels, taps = reuses(system)
    assert output.witness is None and taps.witness is None
    witness = pixels.witness
    assert witness is not None and pixels.vectors == ()
    assert witness.subscripts == (f"y + k // {kernel}", f"x + k % {kernel}")

    def element(*points: tuple[int, ...]) -> np.ndarray:
        return pixels.access.elements(system.space, np.array(points))

    here, there = element(witness.here, witness.there)
    assert tuple(np.subtract(witness.here, witness.there)) == witness.offset and (here == there).all()
    counter, other = element(witness.counter, tuple(np.subtract(witness.counter, witness.offset)))
    assert (counter != other).any()
    with pytest.raises(AnalysisError, match="X.* has no constant dependence vectors, hence no schedule"):
        search(system, ANY)


def test_depthwise_pixels_pass_only_from_line_to_line() -> None:
    """With the taps in one index, a line further is K taps further; a pixel further is no fixed number of taps."""
    pixels = reuses(operator("depthwise").systems[0])[1]
    assert pixels.partial == ((1, 0, -3),)
    assert pixels.witness is not None and pixels.witness.offset == (0, 1, -1)


def test_standard_convolution_is_refused_though_filters_share_pixels() -> None:
    _, filters, pixels = reuses(operator("conv2d").systems[0])
    assert filters.vectors == ((0, 1, 0),)
    assert pixels.witness is not None and pixels.partial == ((1, 0, 0),)


def test_division_alone_is_no_reason_to_refuse() -> None:
    """Pointwise convolution splits p into line and column too; points share only where p is equal."""
    system = operator("pointwise").systems[0]
    assert "p // 3" in str(system) and is_regular(system)
    like = operator("matmul", {"M": 3, "N": 6, "K": 5}).systems[0]
    found, known = search(system, ANY), search(like, ANY)
    assert [(one.schedule, one.allocation) for one in found] == [(one.schedule, one.allocation) for one in known]


def test_constancy_is_decided_for_all_extents() -> None:
    """An offset that fits the box only once is not constant for that."""
    system = operator("depthwise").systems[0]
    pixels, space = system.first, system.space
    corner = (-2, -2, 8)  # from tap 0 to tap 8: one pair of taps, so the box alone cannot contradict
    points = space.points()
    inside = points[space.contains(points - np.array(corner))]
    assert (pixels.elements(space, inside) == pixels.elements(space, inside - np.array(corner))).all()
    assert not is_constant(pixels, space, corner)
    assert is_constant(pixels, space, (1, 0, -3)) and not is_constant(pixels, space, (0, 1, -1))


def test_elements_that_come_back_periodically_share_along_the_periods() -> None:
    access = Access("Z", ((Term("x", mod=2),), (Term("y", mod=3),)))
    assert reuse(access, Space(("x", "y"), (4, 6))).vectors == ((2, 0), (0, 3))


# --- schedules


def by_stationary(system: System, fabric: str = "neighbours") -> dict[str, object]:
    found = search(system, FABRICS[fabric])
    return {one.stationary: one for one in found if one.stationary != "none"}


@pytest.mark.parametrize(("rows", "cols", "depth"), [(3, 4, 5), (2, 6, 3)])
def test_matrix_product_has_the_three_classical_maps(rows: int, cols: int, depth: int) -> None:
    maps = by_stationary(operator("matmul", {"M": rows, "N": cols, "K": depth}).systems[0])
    assert set(maps) == {"A", "B", "C"}
    for stationary, processors in (("C", rows * cols), ("A", rows * depth), ("B", depth * cols)):
        one = maps[stationary]
        assert one.schedule == (1, 1, 1) and one.processors == processors and one.latency == rows + cols + depth - 2
        assert one.utilisation == rows * cols * depth / (processors * (rows + cols + depth - 2))
        moving = [flow for flow in one.flows if flow.kind == "moving"]
        assert {flow.link for flow in moving} == {(0, 1), (1, 0)} and {flow.delay for flow in moving} == {1}


def test_matrix_product_has_kung_and_leisersons_hexagonal_map() -> None:
    one = best(operator("matmul").systems[0], ANY, allocation((1, 1, 1)))
    assert (
        one is not None and one.stationary == "none" and {flow.link for flow in one.flows} == {(0, 1), (1, 0), (-1, -1)}
    )


@pytest.mark.parametrize(("width", "kernel"), [(6, 3), (9, 4)])
def test_conv1d_is_systolic_on_a_line_of_processors(width: int, kernel: int) -> None:
    maps = by_stationary(operator("conv1d", {"W": width, "K": kernel}).systems[0])
    assert {name: one.processors for name, one in maps.items()} == {"F": kernel, "Y": width, "X": width + kernel - 1}
    for one in maps.values():
        assert one.latency == width + kernel - 1
        # one of the three meets the others at half their speed
        assert sorted(flow.delay for flow in one.flows) == [1, 1, 2]


@pytest.mark.parametrize("branch", [0, 1], ids=["rows", "columns"])
@pytest.mark.parametrize("name", ["fuse-half", "fuse-full"])
def test_fuse_needs_the_broadcast_to_finish_in_k_cycles(name: str, branch: int) -> None:
    system = operator(name, {"H": 6, "W": 6, "K": 5}).systems[branch]
    channels = system.space.sizes[0]
    (stos,) = search(system, FABRICS["stos"])
    assert stos.schedule == (0, 0, -1)  # last tap first
    assert stos.allocation == ((1, 0, 0), (0, 1, 0))  # a channel per row, an output per column
    assert (stos.processors, stos.latency, stos.utilisation) == (channels * 6, 5, 1.0)
    assert {flow.array: (flow.kind, flow.link, flow.delay) for flow in stos.flows} == {
        "Y": ("stationary", (0, 0), 1),
        "X": ("moving", (0, 1), 1),
        "F": ("broadcast", (0, 1), 0),
    }
    assert implemented(system) == stos
    assert search(system, FABRICS["gemm"]) == []
    without = by_stationary(system)["Y"]
    assert without.latency == 6 + 5 - 1
    assert {flow.array: flow.delay for flow in without.flows} == {"Y": 1, "F": 1, "X": 2}


def test_one_register_per_link_and_no_broadcast_halve_the_rate() -> None:
    fabric = replace(ANY, registers=1, moving_sums=False)
    (one,) = search(operator("conv1d").systems[0], fabric)
    assert sorted(map(abs, one.schedule)) == [1, 2] and one.stationary == "Y"
    assert one.latency == 5 + 2 * 2 + 1


def test_matrix_product_takes_the_arrays_gemm_mode_and_not_its_stos_mode() -> None:
    system = operator("matmul").systems[0]
    (one,) = search(system, FABRICS["gemm"])
    assert implemented(system) == one and one.stationary == "C"
    assert {flow.array: flow.link for flow in one.flows} == {"C": (0, 0), "A": (0, 1), "B": (1, 0)}
    assert search(system, FABRICS["stos"]) == []


@pytest.mark.parametrize("fabric", FABRICS.values(), ids=FABRICS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_map_found_computes_what_numpy_does(name: str, fabric: object) -> None:
    """Also: places and cycles are those promised, and each element enters once."""
    system = SYSTEMS[name]
    for number, one in enumerate(search(system, fabric)):
        operands = random_operands(one, number)
        run = execute(one, operands)
        assert (run.output == system.reference(operands)).all()
        assert run.trace[-1].cycle + 1 == one.latency and run.trace[0].cycle == 0
        assert len({step.place for step in run.trace}) == one.processors
        assert run.loads == {use.access.array: use.elements for use in reuses(system)[1:]}


def test_some_map_exists_for_each_regular_system() -> None:
    assert all(search(system, ANY) for system in SYSTEMS.values())
    assert {name.rsplit("-", 1)[0] for name in SYSTEMS} == set(OPERATORS)  # conv2d and depthwise: by im2col
    assert not any(is_regular(operator(name).systems[0]) for name in ("conv2d", "depthwise"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": (1, 1, 0)}, "two computations on PE"),
        ({"allocation": ((1, 0, 0), (0, 0, 1))}, "nobody takes|two values"),
        ({"schedule": (1, 2, 1)}, "nobody takes|two values"),
    ],
)
def test_a_wrong_map_does_not_execute(change: dict[str, object], message: str) -> None:
    one = by_stationary(operator("matmul").systems[0])["C"]
    with pytest.raises(RuntimeError, match=message):
        execute(replace(one, **change), random_operands(one, 0))


# --- im2col, and the form with an index for each loop


@pytest.mark.parametrize("kernel", [2, 3])
def test_im2col_of_depthwise_leaves_no_reuse_and_one_row(kernel: int) -> None:
    result = argument(operator("depthwise", {"H": 5, "W": 4, "K": kernel}))["im2col"]
    pixels = (5 + kernel - 1) * (4 + kernel - 1)
    assert (result["elements_before"], result["elements_after"]) == (pixels, 5 * 4 * kernel**2)
    assert (result["uses_before"], result["uses_after"]) == (5 * 4 * kernel**2 / pixels, 1)
    assert result["rows"] == 1 and result["regular"]
    (gemm,) = result["mappings"]["gemm"]
    assert gemm["processors"] == 5 * 4 and {place[0] for place in gemm["allocation"]} == {0, 1}


def test_im2col_of_standard_convolution_keeps_the_reuse_by_filters() -> None:
    result = argument(operator("conv2d", {"O": 4, "H": 2, "W": 2}))["im2col"]
    assert result["uses_after"] == result["rows"] == 4


@pytest.mark.parametrize("kernel", [3, 4])
def test_depthwise_with_four_indices_has_a_map_whose_links_grow_with_the_kernel(kernel: int) -> None:
    system = operator("depthwise", {"H": 3, "W": 3, "K": kernel}).unflattened
    assert is_regular(system)
    one = best(system, ANY, ((1, 0, 0, 0), (0, 1, 0, 0)), reach=kernel)
    assert one is not None and one.processors == 9
    assert max(abs(entry) for entry in one.schedule) == kernel
    assert max(flow.delay for flow in one.flows if flow.kind == "moving") == kernel - 1
    operands = random_operands(one, kernel)
    run = execute(one, operands)
    assert (run.output == system.reference(operands)).all()
    assert run.loads == {"X": (3 + kernel - 1) ** 2, "F": kernel**2}
    with pytest.raises(AnalysisError, match="4 indices"):
        search(system, ANY)


def test_no_schedule_with_small_entries_serves_four_indices() -> None:
    """Entries must reach the kernel's extent: no schedule for all kernels."""
    system = operator("depthwise", {"H": 3, "W": 3, "K": 4}).unflattened
    assert best(system, ANY, ((1, 0, 0, 0), (0, 1, 0, 0)), reach=3) is None


# --- limits


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("conv3d", {}, "operator 'conv3d' is none of matmul, "),
        ("conv1d", {"Z": 3}, "conv1d: size 'Z' is none of W, K"),
        ("conv1d", {"W": 0}, "conv1d: size W = 0 is below 1"),
        ("fuse-half", {"C": 3}, "C = 3 is odd"),
        ("matmul", {"M": 100, "N": 100}, r"at most 4096 .*\(--size\)"),
    ],
)
def test_wrong_sizes_are_named(name: str, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        operator(name, sizes)


def test_terms_are_what_they_print() -> None:
    for div, mod in product((1, 3), (0, 2)):
        term = Term("k", div, mod)
        assert [eval(str(term), {"k": k}) for k in range(-9, 9)] == term.at(np.arange(-9, 9)).tolist()
