"""Other systems for durable work, run with their own recommended settings on the same workloads in the same run."""
