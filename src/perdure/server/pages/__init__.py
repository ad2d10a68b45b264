"""The pages that people see, built from `ui/` into `static/`."""
