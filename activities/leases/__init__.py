"""Leases of a model's limits, as the limiter on Temporal gives them: the adapter of the port in `models/throttle.py`.

May import the contract. Begin with `durable.Fleet`.
"""
