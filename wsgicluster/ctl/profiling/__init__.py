"""Where a worker spends its time: its stacks are sampled from outside, counted, and drawn."""
