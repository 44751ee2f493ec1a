"""What instances remember, as workflows of their own: conversations, and the pages of a run's ledger.

Begin with `conversation.Conversation` and `pages.LedgerPages`.
"""
