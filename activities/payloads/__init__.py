"""Payloads on their way out: without secrets, encrypted where a key is set, and into the store where they are large.

May import the border and values. Begin with `codecs.Codecs`, `hiding.HidingCodec`, `encryption.EncryptionCodec`,
`store.Store`; how people read what was sent is in `reading.py`.
"""
