"""Checks: does everything lie where it belongs, and do the accounts add up."""

from fluxforge.verify.lake import verify_lake
from fluxforge.verify.report import Check, Finding, VerifyReport

__all__ = ["Check", "Finding", "VerifyReport", "verify_lake"]
