"""Instruction set simulator: the golden integer model of the accelerator, in numpy.

Instructions take effect one after another, each as a whole, in program order.  The ISA demands that this order be
valid; whether the tokens really enforce it on the concurrent queues is checked too (:mod:`sim.iss.hazards`).
"""

from sim.iss.core import IssBackend

__all__ = ["IssBackend"]
