"""The report page of an evaluation, from its saved files alone."""

from contentctr.report.page import write_report as write_report
