"""From segments to tables: claim, transform, commit, account; each segment exactly once."""
