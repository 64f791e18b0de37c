"""What the metrics say of clips whose faults are known, and a report of it."""
