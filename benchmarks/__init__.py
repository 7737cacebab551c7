"""What is measured: speed as ratios, and how many planted bugs `simmig verify` finds."""
