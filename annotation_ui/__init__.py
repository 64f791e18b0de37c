"""The page on which people compare two clips, and the server behind it."""
