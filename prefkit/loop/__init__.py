"""The stages put together. Only these modules and the command line know all stages; they see only their tables."""
