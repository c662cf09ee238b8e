"""Benchmarks: what FluxForge costs, beside what does the same by hand.

``python -m benchmarks`` prints, for each line, the target, what was measured, the peer, and the
spread over three runs. Ratios are of one run, in which both take turns; times depend on the
machine. The peers are the extra ``bench``; where ArcticDB is not installed, it says so.
"""
