"""What an instance remembers: transcripts, their branches, and how a call reaches them.

May import the border. `port.Memory` is the port; `port.Nothing`, `port.InThisProcess` and `durable.Durable` are its
adapters.
"""
