"""The report of a run or a sweep in one HTML file that needs nothing else: no network, no script, no font."""
