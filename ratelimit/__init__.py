"""Rate limits: mailbox middleware per actor, per pair, per cluster (not built yet)."""
