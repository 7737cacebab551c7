"""simmig: write a drain policy once; simulate it, try to break it, run it on RDMA."""

__version__ = "0.1.0"
