"""The accelerator's specification in plain Python: configuration, instructions, registers, arithmetic, programs.

Everything that more than one side must agree on lives here, once. The package imports the standard
library and numpy only, so that hardware, compiler, simulators and documents can all derive from it.
"""
