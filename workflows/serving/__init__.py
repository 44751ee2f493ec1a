"""Serving it all: which modules, in what sandbox, on which queues, guarded from outside.

May import everything. Begin with `settings.Settings`, `client.connect`, `workers.workers`, `discovery.discover`.
"""
