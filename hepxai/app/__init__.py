"""The page in the browser: runs, scans and uploads, explained without code."""
