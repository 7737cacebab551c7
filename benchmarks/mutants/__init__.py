"""The mutation benchmark: bugs that are one slip away, and which explorer of `simmig verify` finds them, how fast.

Each mutant is a TOML file in `protocol/` (the migration) or `device/` (the simulated device's rules): what the
slip is (`about`), where it comes from (`source`: a bug seen in the field, or a rule's number), and its edits. An
edit's `before` must be in its file exactly once, so a mutant that no longer fits says so instead of changing
something else. A mutant that nothing can tell from the original says why in `equivalent`.
"""
