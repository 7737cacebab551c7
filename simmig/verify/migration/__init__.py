"""The migration as a subject of `verify`: its cases, what they run in, and what must hold beside the trace."""
