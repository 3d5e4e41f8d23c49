"""The argument about an operator: as data, and in words."""

from __future__ import annotations

from typing import Any

from sw.analysis.dependences import Reuse, Vector, reuses
from sw.analysis.operators import Operator
from sw.analysis.recurrences import System
from sw.analysis.schedule import FABRICS, Mapping, best, search

__all__ = ["argument", "equations", "implemented", "text"]

_UNFLATTENED_INDICES = (
    4  # with so many the search over two dimensions of space takes a second, with six it does not end
)


def argument(operator: Operator) -> dict[str, Any]:
    """Return all that is found out about an operator; keys are those of ``--json`` (``docs/analysis.md``)."""
    result: dict[str, Any] = {
        "operator": operator.name,
        "title": operator.title,
        "sizes": operator.sizes,
        "systems": [_system(system) for system in operator.systems],
    }
    result["regular"] = all(system["regular"] for system in result["systems"])
    if operator.im2col is not None:
        result["im2col"] = _im2col(operator.systems[0], operator.im2col)
    if operator.unflattened is not None:
        result["unflattened"] = _unflattened(operator.unflattened)
    return result


def implemented(system: System) -> Mapping | None:
    """Return the map that the generated array implements: in ST-OS mode where there is one, else in GEMM mode."""
    for name in ("stos", "gemm"):
        if found := search(system, FABRICS[name]):
            return found[0]
    return None


def equations(system: System, found: tuple[Reuse, ...]) -> list[str]:
    """Return a system as recurrence equations with single assignment, one for each array.

    Of several values the first whose point lies in the box counts: an operand is passed from point to point along its
    vectors, and comes from outside, in brackets, where none leads into the box; one without constant vectors always
    does.
    """
    names = system.space.names

    def at(array: str, vector: Vector | None = None) -> str:
        shifts = vector or (0,) * len(names)
        parts = [
            f"{name} {'-' if shift > 0 else '+'} {abs(shift)}" if shift else name
            for name, shift in zip(names, shifts, strict=True)
        ]
        return f"{array}({', '.join(parts)})"

    output, *operands = found
    lines = []
    for one in operands:
        array = one.access.array
        passed = [] if one.witness is not None else [at(array, vector) for vector in one.vectors]
        lines.append(f"{at(array)} = {' or '.join([*passed, str(one.access)])}")
    product = " * ".join(at(one.access.array) for one in operands)
    before = " or ".join([*(at(output.access.array, vector) for vector in output.vectors), "0"])
    lines.append(f"{at(output.access.array)} = {f'({before})' if ' or ' in before else before} + {product}")
    return lines


def _system(system: System) -> dict[str, Any]:
    found = reuses(system)
    arrays = [_array(one) for one in found]
    regular = all(array["constant"] for array in arrays)
    maps = (
        {name: [_mapping(one) for one in search(system, fabric)] for name, fabric in FABRICS.items()} if regular else {}
    )
    return {
        "name": system.name,
        "recurrence": str(system),
        "equations": equations(system, found),
        "indices": dict(zip(system.space.names, system.space.sizes, strict=True)),
        "arrays": arrays,
        "regular": regular,
        "mappings": maps,
    }


def _array(one: Reuse) -> dict[str, Any]:
    result: dict[str, Any] = {
        "array": one.access.array,
        "access": str(one.access),
        "constant": one.witness is None,
        "vectors": one.vectors,
        "elements": one.elements,
        "uses": one.uses,
    }
    if one.witness is not None:
        result["partial"] = one.partial
        result["witness"] = {
            "offset": one.witness.offset,
            "here": one.witness.here,
            "there": one.witness.there,
            "counter": one.witness.counter,
            "subscripts": one.witness.subscripts,
        }
    return result


def _mapping(one: Mapping) -> dict[str, Any]:
    return {
        "schedule": one.schedule,
        "allocation": one.allocation,
        "stationary": one.stationary,
        "flows": [
            {"array": flow.array, "vector": flow.vector, "kind": flow.kind, "delay": flow.delay, "link": flow.link}
            for flow in one.flows
        ],
        "processors": one.processors,
        "latency": one.latency,
        "utilisation": one.utilisation,
    }


def _im2col(before: System, after: System) -> dict[str, Any]:
    """Return what the matrix product costs: copies of the pixels, and the reuse that is left."""
    pixels = next(one for one in reuses(before) if one.witness is not None)
    copies = next(one for one in reuses(after) if one.access.array == f"{pixels.access.array}'")
    return {
        **_system(after),
        "elements_before": pixels.elements,
        "elements_after": copies.elements,
        "copies": copies.elements / pixels.elements,
        "uses_before": pixels.uses,
        "uses_after": copies.uses,
        "rows": after.space.sizes[0],
    }


def _unflattened(system: System) -> dict[str, Any]:
    found = None
    if len(system.space.sizes) == _UNFLATTENED_INDICES:
        rows = tuple(tuple(int(axis == chosen) for axis in range(_UNFLATTENED_INDICES)) for chosen in (0, 1))
        found = best(system, FABRICS["neighbours"], rows, reach=system.space.sizes[-1])
    return {
        "recurrence": str(system),
        "indices": dict(zip(system.space.names, system.space.sizes, strict=True)),
        "arrays": [_array(one) for one in reuses(system)],
        "mapping": None if found is None else _mapping(found),
    }


def _vector(vector: Vector) -> str:
    return f"({', '.join(map(str, vector))})"


def _vectors(vectors: tuple[Vector, ...]) -> str:
    return " ".join(map(_vector, vectors))


def text(result: dict[str, Any]) -> str:
    """Return an argument in words."""
    sizes = " ".join(f"{name}={size}" for name, size in result["sizes"].items())
    lines = [f"{result['title']}  [{sizes}]"]
    for system in result["systems"]:
        lines += ["", *_system_lines(system)]
    if "im2col" in result:
        lines += ["", *_im2col_lines(result["im2col"])]
    if "unflattened" in result:
        lines += ["", *_unflattened_lines(result["unflattened"])]
    return "\n".join(lines)


def _system_lines(system: dict[str, Any]) -> list[str]:
    box = ", ".join(f"0 <= {name} < {size}" for name, size in system["indices"].items())
    lines = [f"{system['name']}: {system['recurrence']}", f"  index points ({', '.join(system['indices'])}): {box}"]
    lines += [f"    {equation}" for equation in system["equations"]]
    lines += [line for array in system["arrays"] for line in _array_lines(array)]
    if not system["regular"]:
        refused = ", ".join(array["array"] for array in system["arrays"] if not array["constant"])
        return [
            *lines,
            f"  no regular iterative algorithm: {refused} has no constant dependence vectors; no linear schedule",
        ]
    lines.append("  a regular iterative algorithm: all dependence vectors are constant")
    for name, maps in system["mappings"].items():
        lines.append(f"  on {FABRICS[name].title} ({name}):")
        lines += [f"    {_mapping_line(one)}" for one in maps] or ["    no map found"]
    return lines


def _array_lines(array: dict[str, Any]) -> list[str]:
    uses = f"{array['elements']} elements, {array['uses']:.4g} uses each"
    if array["constant"]:
        vectors = f"passes along {_vectors(array['vectors'])}" if array["vectors"] else "no reuse"
        return [f"  {array['access']}: {vectors}; {uses}"]
    witness = array["witness"]
    lines = [
        f"  {array['access']}: not constant; {uses}",
        f"    points {_vector(witness['here'])} and {_vector(witness['there'])} use the same element, "
        f"{_vector(witness['offset'])} apart,",
        f"    but {_vector(witness['counter'])} and the point as far from it do not: there differs "
        f"{' and '.join(witness['subscripts'])}",
    ]
    if array["partial"]:
        lines.append(f"    constant is only {_vectors(array['partial'])}")
    return lines


def _mapping_line(one: dict[str, Any]) -> str:
    flows = ", ".join(dict.fromkeys(_flow_text(flow) for flow in one["flows"]))
    return (
        f"time {_vector(one['schedule'])}, place {_vectors(one['allocation'])}: {one['processors']} PEs, "
        f"{one['latency']} cycles, busy {100 * one['utilisation']:.1f} % of them; "
        f"stationary: {one['stationary']}; {flows}"
    )


def _flow_text(flow: dict[str, Any]) -> str:
    if flow["kind"] == "stationary":
        return f"{flow['array']} stays"
    how = "is broadcast" if flow["kind"] == "broadcast" else f"moves in {flow['delay']}"
    return f"{flow['array']} {how} over {_vector(flow['link'])}"


def _im2col_lines(result: dict[str, Any]) -> list[str]:
    rows = f"{result['rows']} row{'s' if result['rows'] > 1 else ''}"
    before, after = result["elements_before"], result["elements_after"]
    return [
        f"im2col makes a matrix product of it: {result['recurrence']}",
        f"  {before} pixels become {after}, {result['copies']:.4g} times as many;",
        f"  uses of an element fall from {result['uses_before']:.4g} to {result['uses_after']:.4g};",
        f"  output-stationary, it fills {rows} of an array of any height: one for each filter that shares the pixels",
        *_system_lines(result),
    ]


def _unflattened_lines(result: dict[str, Any]) -> list[str]:
    lines = [
        f"With an index for each loop: {result['recurrence']}",
        *(line for array in result["arrays"] for line in _array_lines(array)),
        f"  constant, but {len(result['indices'])} indices are more than one dimension of time and two of space take.",
    ]
    if result["mapping"] is not None:
        registers = max(flow["delay"] for flow in result["mapping"]["flows"] if flow["kind"] != "stationary")
        lines += [
            "  Time can number several loops if the schedule may depend on their extents, with one PE for each output:",
            f"    {_mapping_line(result['mapping'])}",
            f"    its longest link has {registers} registers, as this kernel needs; no other filter uses these pixels",
        ]
    return lines
