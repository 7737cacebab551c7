"""One run: simulated, on devices in one process, or one end of it in a process of its own."""
