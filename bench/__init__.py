"""Benchmarks: workloads, apps, peers and the programs that run them. `python -m bench --help` says how."""
