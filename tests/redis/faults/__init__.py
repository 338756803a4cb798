"""Real processes, real signals, a real server: what happens is recorded as it happens, and judged afterwards."""
