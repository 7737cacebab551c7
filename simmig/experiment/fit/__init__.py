"""Fitting: models calibrated from devices and logs, held against them, and what is predicted from recordings."""
