"""Checks: does everything lie where it belongs, is it what was written, do the accounts add up."""

from fluxforge.verify.lake import verify_lake
from fluxforge.verify.report import Check, Finding, VerifyReport

__all__ = ["Check", "Finding", "VerifyReport", "verify_lake"]
