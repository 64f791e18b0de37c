"""HTML reports that open from disk: `prefkit.reporting.report.write_report`."""
