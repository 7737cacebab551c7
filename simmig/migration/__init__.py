"""The migration room: QEMU's RDMA migration protocol, both ends, and the drain policies.

Imports neither an event engine nor a device: it is handed verbs objects and a runtime (`simmig.verbs`).
"""
