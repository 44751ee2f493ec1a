"""Limits over the fleet: what a provider takes of requests and tokens in a minute, divided among all who ask it.

May import errors, and the contract. Begin with `limiter.Limiter`, the workflow; `pot.py` decides who gets how much,
`division.py` is the arithmetic of that. Both know no clock and no server.
"""
