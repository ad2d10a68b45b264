"""The apps whose functions the workloads run. Every one answers the control routes of `marks` beside its functions."""
