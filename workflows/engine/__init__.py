"""A run: what it admits, its ledger of what has happened, its pools and scopes, requests, and shards.

May import the rooms that it is composed of: people, steering and what is shown. Begin with `run.Run`, `ledger.Ledger`,
`request.Request`, `shard.Shard`.
"""
