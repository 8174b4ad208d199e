"""The only place that opens /proc and /sys: it reads facts, and decides nothing."""
