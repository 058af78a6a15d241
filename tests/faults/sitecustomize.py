"""Read by every Python that finds this folder in PYTHONPATH: processes that a run under test starts anew take part in its fault."""

from __future__ import annotations

from injection import follow_plan

follow_plan()
