"""Real RDMA: pyverbs objects under the interfaces that the simulated device has as well."""
