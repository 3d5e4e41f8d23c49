"""The operators of the argument as systems, with the sizes that the user may choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sw.analysis.recurrences import Access, AnalysisError, Space, System, Term

__all__ = ["OPERATORS", "Operator", "operator"]


@dataclass(frozen=True)
class Operator:
    """An operator at one size.

    Attributes
    ----------
    name, title
        As on the command line, and in words.
    sizes
        Extents by name.
    systems
        What is to be mapped on an array of two dimensions and time: three indices at most each.
    im2col
        The matrix product that im2col makes of the first system, if that is a convolution of two dimensions.
    unflattened
        The first system with an index for each loop, for the same operators.
    """

    name: str
    title: str
    sizes: dict[str, int]
    systems: tuple[System, ...]
    im2col: System | None = None
    unflattened: System | None = None


def _access(array: str, *subscripts: str | Term | tuple[Term, ...]) -> Access:
    """Return an access; a subscript given as text is a sum of plain indices, ``"x + k"``."""
    return Access(array, tuple(_terms(one) for one in subscripts))


def _terms(subscript: str | Term | tuple[Term, ...]) -> tuple[Term, ...]:
    if isinstance(subscript, str):
        return tuple(Term(name) for name in subscript.split(" + "))
    return (subscript,) if isinstance(subscript, Term) else subscript


def _system(name: str, extents: Mapping[str, int], output: Access, first: Access, second: Access) -> System:
    return System(name, Space(tuple(extents), tuple(extents.values())), output, first, second)


def _matmul(M: int, N: int, K: int) -> Operator:
    system = _system(
        "matrix product",
        {"i": M, "j": N, "k": K},
        _access("C", "i", "j"),
        _access("A", "i", "k"),
        _access("B", "k", "j"),
    )
    return Operator("matmul", "matrix product, C = A B", {"M": M, "N": N, "K": K}, (system,))


def _pointwise_system(outputs: int, channels: int, height: int, width: int) -> System:
    """Pixels in one index p: the subscripts divide, and no harm comes of it."""
    pixel = (Term("p", div=width), Term("p", mod=width))
    extents = {"o": outputs, "p": height * width, "c": channels}
    return _system("pointwise", extents, _access("Y", "o", *pixel), _access("W", "o", "c"), _access("X", "c", *pixel))


def _pointwise(O: int, C: int, H: int, W: int) -> Operator:  # noqa: E741 - the loop bounds have their usual letters
    sizes = {"O": O, "C": C, "H": H, "W": W}
    return Operator("pointwise", "pointwise (1x1) convolution", sizes, (_pointwise_system(O, C, H, W),))


def _conv1d(W: int, K: int) -> Operator:
    system = _system("1-D convolution", {"x": W, "k": K}, _access("Y", "x"), _access("X", "x + k"), _access("F", "k"))
    return Operator("conv1d", "1-D convolution, one line and one filter", {"W": W, "K": K}, (system,))


def _depthwise(H: int, W: int, K: int) -> Operator:
    line, column = Term("k", div=K), Term("k", mod=K)
    flat = _system(
        "one channel of depthwise",
        {"y": H, "x": W, "k": K * K},
        _access("Y", "y", "x"),
        _access("X", (Term("y"), line), (Term("x"), column)),
        _access("F", line, column),
    )
    product = _system(
        "one channel of depthwise by im2col",
        {"o": 1, "p": H * W, "r": K * K},
        _access("Y", "o", "p"),
        _access("F", "o", "r"),
        _access("X'", "r", "p"),
    )
    loops = _system(
        "one channel of depthwise, a loop for each index",
        {"y": H, "x": W, "m": K, "n": K},
        _access("Y", "y", "x"),
        _access("X", "y + m", "x + n"),
        _access("F", "m", "n"),
    )
    title = "depthwise KxK convolution, one of its channels (they share nothing)"
    return Operator("depthwise", title, {"H": H, "W": W, "K": K}, (flat,), product, loops)


def _conv2d(O: int, C: int, H: int, W: int, K: int) -> Operator:  # noqa: E741 - the loop bounds have their usual letters
    channel, line, column = Term("r", div=K * K), Term("r", div=K, mod=K), Term("r", mod=K)
    y, x = Term("p", div=W), Term("p", mod=W)
    extents = {"o": O, "p": H * W, "r": C * K * K}
    flat = _system(
        "standard convolution",
        extents,
        _access("Y", "o", y, x),
        _access("F", "o", channel, line, column),
        _access("X", channel, (y, line), (x, column)),
    )
    product = _system(
        "standard convolution by im2col",
        extents,
        _access("Y", "o", "p"),
        _access("F", "o", "r"),
        _access("X'", "r", "p"),
    )
    loops = _system(
        "standard convolution, a loop for each index",
        {"o": O, "y": H, "x": W, "c": C, "m": K, "n": K},
        _access("Y", "o", "y", "x"),
        _access("F", "o", "c", "m", "n"),
        _access("X", "c", "y + m", "x + n"),
    )
    sizes = {"O": O, "C": C, "H": H, "W": W, "K": K}
    return Operator("conv2d", "standard KxK convolution", sizes, (flat,), product, loops)


def _fuse(full: bool, C: int, H: int, W: int, K: int) -> Operator:
    """Row filters for one line of their channels, column filters for one column, and the pointwise behind them."""
    name, word = ("fuse-full", "Full") if full else ("fuse-half", "Half")
    if not full and C % 2:
        raise AnalysisError(f"fuse-half: C = {C} is odd; half of the channels get a row filter, half a column filter")
    branch = C if full else C // 2
    row = _system(
        "row filters 1xK, a line of each channel",
        {"c": branch, "x": W, "k": K},
        _access("Y", "c", "x"),
        _access("X", "c", "x + k"),
        _access("F", "c", "k"),
    )
    column = _system(
        "column filters Kx1, a column of each channel",
        {"c": branch, "y": H, "k": K},
        _access("Y", "c", "y"),
        _access("X", "c", "y + k"),
        _access("F", "c", "k"),
    )
    pointwise = _pointwise_system(C, 2 * branch, H, W)
    title = f"FuSe {word}: 1-D row and column filters, then pointwise"
    return Operator(name, title, {"C": C, "H": H, "W": W, "K": K}, (row, column, pointwise))


OPERATORS: dict[str, tuple[Callable[..., Operator], dict[str, int]]] = {
    "matmul": (_matmul, {"M": 3, "N": 4, "K": 5}),
    "pointwise": (_pointwise, {"O": 3, "C": 5, "H": 2, "W": 3}),
    "conv1d": (_conv1d, {"W": 6, "K": 3}),
    "conv2d": (_conv2d, {"O": 2, "C": 2, "H": 3, "W": 3, "K": 2}),
    "depthwise": (_depthwise, {"H": 4, "W": 4, "K": 3}),
    "fuse-half": (lambda **sizes: _fuse(False, **sizes), {"C": 4, "H": 4, "W": 4, "K": 3}),
    "fuse-full": (lambda **sizes: _fuse(True, **sizes), {"C": 4, "H": 4, "W": 4, "K": 3}),
}
"""By name: what makes the operator, and its sizes unless told: small enough for pictures, unequal where it matters."""


def operator(name: str, sizes: Mapping[str, int] | None = None) -> Operator:
    """Return an operator.

    Raises
    ------
    AnalysisError
        An unknown operator or size, or an extent that does not fit.
    """
    if name not in OPERATORS:
        raise AnalysisError(f"operator {name!r} is none of {', '.join(OPERATORS)}")
    build, defaults = OPERATORS[name]
    chosen = {**defaults, **(sizes or {})}
    if unknown := set(chosen) - set(defaults):
        raise AnalysisError(f"{name}: size {min(unknown)!r} is none of {', '.join(defaults)}")
    for size, value in chosen.items():
        if value < 1:
            raise AnalysisError(f"{name}: size {size} = {value} is below 1")
    return build(**chosen)
