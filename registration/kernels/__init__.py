"""Fused, compiled forms of the geometry and the losses.

Every kernel here has a plain torch version that defines it, in the module that calls it: the oracle of its tests, and
what runs where no kernel serves (other devices, other dtypes, `plain_torch()`).
"""
