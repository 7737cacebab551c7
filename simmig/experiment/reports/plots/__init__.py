"""Pictures of migrations and sweeps: a kind a file, drawn into an axis or as a figure of its own."""
