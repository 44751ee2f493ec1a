"""A method as a Temporal activity: one call of a run, its heartbeats, its failure.

May import all rooms below. Begin with `activity.activity_for` and `heartbeats.Heartbeats`.
"""
