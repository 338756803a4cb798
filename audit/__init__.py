"""The audit trail: mailbox middleware that records the fate of every message (not built yet)."""
