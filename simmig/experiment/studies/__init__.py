"""Studies of many runs: sweeps, advice, several side by side, the demonstration."""
