"""The border to text and code that are not ours: what models, tools, providers and authors hand us.

May import the contract and errors. Begin with `washing.said`, `user_code.in_thread`, `context.CallContext`.
"""
