"""Clients for a person at a terminal, beside the `temporal` CLI: `python -m console …`."""
