"""placeholder"""

from __future__ import annotations


class Oracle:
    def __init__(self, checks, programs):
        pass

    def committed(self, tables, changes):
        pass
