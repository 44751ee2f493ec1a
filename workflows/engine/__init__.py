"""A run: what it admits, its journal of what has happened, its pools, requests, and shards.

May import the rooms that it is composed of: people, steering, what is shown, and the tree. Begin with `run.Run`,
`journal.Journal`, `request.Request`, `shard.Shard`.
"""
