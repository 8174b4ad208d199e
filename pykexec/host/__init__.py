"""The only place that opens /proc and /sys: facts out, nothing decided."""
