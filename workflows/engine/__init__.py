"""A run: what it admits, its journal of what has happened, its pools and scopes, requests, and shards.

May import the rooms that it is composed of: people, steering and what is shown. Begin with `run.Run`,
`journal.Journal`, `request.Request`, `shard.Shard`.
"""
