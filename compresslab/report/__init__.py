"""What a run found, and how it is told: results.json, tables, Markdown, HTML and pictures. Needs no torch.

`results.py` turns a Report into plain data; all that is shown is drawn from that data alone, so that
`compresslab report` can show a run that ended long ago.
"""

from __future__ import annotations

from compresslab.report.charts import write_chart
from compresslab.report.pages import write_report
from compresslab.report.report import Point, Report
from compresslab.report.results import load_results

__all__ = ["Point", "Report", "load_results", "write_chart", "write_report"]
