"""One file a workload. Each has `measure(rig)`, which gives figures by name; the names carry their units."""
