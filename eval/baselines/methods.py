"""The reference methods by the names that users give."""

from __future__ import annotations

from lumirkit.eval.baselines.convexadam import ConvexAdam
from lumirkit.eval.baselines.greedy import Greedy
from lumirkit.eval.baselines.method import Baseline
from lumirkit.eval.baselines.spline import Spline
from lumirkit.eval.baselines.syn import SyN
from lumirkit.eval.baselines.zero import Zero

BASELINES: dict[str, type[Baseline]] = {
    "zero": Zero,
    "syn": SyN,
    "convexadam": ConvexAdam,
    "greedy": Greedy,
    "spline": Spline,
}
