"""Pictures and reports of what was run."""
