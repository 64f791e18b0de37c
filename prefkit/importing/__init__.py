"""What others made: clips (`clips`), and comparisons with votes (`votes`, one file per format)."""
