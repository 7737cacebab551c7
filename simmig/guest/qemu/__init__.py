"""A running, stock QEMU as the guest: its memory mapped and watched from outside, its life in QMP's hands."""
