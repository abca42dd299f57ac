"""Refinement of one pair: more symmetric updates, whose control points are found by minimising the loss of that pair.

The network's updates stay as they are. Each stage adds one update, phi on the moving side and psi on the fixed side of
the half-way space, of opposite control points under the bound that keeps phi and psi invertible. So the refined
registration is as symmetric, inverse-consistent and free of folds as the network's, and without a network it is a
classical method of its own.
"""
