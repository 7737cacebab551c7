"""The device lab: a kernel with soft-RoCE, booted in a virtual machine on a copy-on-write view of this one."""
