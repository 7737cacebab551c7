"""The trace room: one vocabulary of events for simulated, real and stock-QEMU migrations."""
