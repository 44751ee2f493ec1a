"""Payloads on their way out: without secrets, encrypted where a key is set.

May import the border. Begin with `codecs.Codecs`, `hiding.HidingCodec`, `encryption.EncryptionCodec`.
"""
