"""Fused, compiled forms of the geometry and the losses.

Every kernel here has a plain torch version, in the module that calls it, which defines what it computes. The tests
compare the two, and the plain version runs where no kernel serves: other devices, other dtypes, `plain_torch()`.
"""
