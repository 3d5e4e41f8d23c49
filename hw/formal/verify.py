"""Verify one block: search for violations, prove, and reach every cover statement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hw.formal.harness import Block
from hw.formal.netlist import netlist
from hw.formal.pdr import proved
from hw.formal.solver import Trace, bounded, covered, inductive
from hw.formal.system import System, read_btor

__all__ = ["Finding", "Report", "verify"]

Tell = Callable[[str], None]

NO_PATH = "no_combinational_path"
"""The property that :attr:`hw.formal.harness.Block.independent` asks for."""


@dataclass
class Finding:
    """What came of one property.

    Attributes
    ----------
    name
        Property.
    result
        ``proved``, ``bounded``, ``violated``, ``reached`` or ``unreached``.
    how
        Method and its depth, in words.
    trace
        Counterexample, if `result` is ``violated``.
    """

    name: str
    result: str
    how: str
    trace: Trace | None = None

    @property
    def good(self) -> bool:
        """Whether nothing speaks against the block."""
        return self.result in ("proved", "bounded", "reached")


@dataclass
class Report:
    """Findings about a block, and seconds of wall clock that they took."""

    block: str
    assumes: str
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether every property holds and every cover statement is reached."""
        return all(finding.good for finding in self.findings)


def _paths(block: Block, system: System) -> list[Finding]:
    """Check that no output depends on an input within a cycle where the block says so."""
    inputs = {system.nodes[number].name: number for number in system.inputs}
    ways, outputs, sources = [], 0, 0
    for sinks, names in block.independent:
        outputs, sources = outputs + len(sinks), sources + len(names)
        for sink in sinks:
            reached = system.same_cycle(system.outputs[sink])
            ways += [f"{name} to {sink}" for name in names if inputs.get(name) in reached]
    if not block.independent:
        return []
    if ways:
        return [Finding(NO_PATH, "violated", f"combinational path from {'; '.join(ways)}")]
    return [Finding(NO_PATH, "proved", f"netlist: {outputs} outputs, {sources} inputs")]


def verify(
    block: Block, *, depth: int | None = None, prove: bool = True, pdr: bool = True, tell: Tell | None = None
) -> Report:
    """Verify a block.

    Parameters
    ----------
    block
        What to verify.
    depth
        Cycles to search instead of the block's.
    prove
        Try proofs after the bounded search.
    pdr
        Let the PDR engine prove too.
    tell
        Called with what is being done.

    Raises
    ------
    hw.errors.RequestError, hw.errors.ToolError
        If a tool is missing or refuses its input.
    """
    start = time.perf_counter()
    tell = tell or (lambda text: None)
    depth = depth or block.depth
    report = Report(block.name, block.assumes)
    tell("netlist")
    texts = netlist(block.harness())
    system = read_btor(texts.btor)
    report.findings += _paths(block, system)
    tell("bounded search")
    # Induction holds from cycle `induction` on; what comes before is searched.
    found = bounded(system, block.induction + 1, tell=tell)
    how = _proofs(block, system, pdr=pdr, tell=tell) if prove and isinstance(found, int) else {}
    left = [name for name in system.bad if name not in how]
    if left and isinstance(found, int):
        tell(f"bounded search for {len(left)} properties")
        found = bounded(system, depth, names=left, seconds=block.search_seconds, tell=tell)
    report.findings += [Finding(name, "proved", how[name]) for name in system.bad if name in how]
    if isinstance(found, int):
        report.findings += [Finding(name, "bounded", f"first {found} cycles") for name in left]
    else:
        report.findings += [
            Finding(name, "violated", f"after {found.cycle} cycles", found.trace) for name in found.names
        ]
    tell("covers")
    for name, trace in covered(read_btor(texts.cover), depth, seconds=block.search_seconds).items():
        if trace:
            report.findings.append(Finding(name, "reached", f"cover, after {len(trace.values) - 1} cycles"))
        else:
            report.findings.append(Finding(name, "unreached", f"cover, not within {depth} cycles"))
    report.seconds = time.perf_counter() - start
    return report


def _proofs(block: Block, system: System, *, pdr: bool, tell: Tell) -> dict[str, str]:
    """Return by which method properties are proved, those of a system that is right in its first cycles."""
    how: dict[str, str] = {}
    for k in range(1, block.induction + 1):
        tell(f"{k}-induction")
        for name in inductive(system, k):
            how.setdefault(name, f"{k}-induction")
        if len(how) == len(system.bad):
            break
    left = [name for name in system.bad if name not in how]
    if left and pdr and block.pdr_seconds:
        tell(f"PDR for {len(left)} properties")
        groups = [left] if len(left) == 1 else [left, *([name] for name in left)]
        for group in groups:
            if all(name in how for name in group):
                continue
            if proved(netlist(block.harness(), aiger=group).aiger, block.pdr_seconds):
                how |= dict.fromkeys(group, "PDR")
    return how
