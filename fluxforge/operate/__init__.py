"""A lake in operation: ``fluxforge run``, what it measures, and what counts as healthy.

To read, bottom up: ``state`` (a lake at one moment), ``health`` (limits on it), ``part`` (one
supervised process), ``supervisor`` (all of them), ``metrics`` (the same numbers for Prometheus).
"""

from fluxforge.operate.health import HealthReport, check_health
from fluxforge.operate.retention import RetentionReport, retain
from fluxforge.operate.state import LakeState, lake_state
from fluxforge.operate.supervisor import Supervisor

__all__ = [
    "HealthReport",
    "LakeState",
    "RetentionReport",
    "Supervisor",
    "check_health",
    "lake_state",
    "retain",
]
