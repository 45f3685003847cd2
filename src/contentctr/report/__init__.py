"""The report page of an evaluation, from its saved files alone."""

from contentctr.report.write import write_report as write_report
