"""The formal argument of FuSeConv as a program: which operators have a systolic schedule, and which one.

Operators are loop nests with one multiply-accumulate each (:mod:`~sw.analysis.operators`), written over a box of
indices (:mod:`~sw.analysis.recurrences`).  :mod:`~sw.analysis.dependences` decides whether they are regular iterative
algorithms, :mod:`~sw.analysis.schedule` searches space-time maps, :mod:`~sw.analysis.execute` runs them.
``docs/analysis.md`` has the definitions.
"""
