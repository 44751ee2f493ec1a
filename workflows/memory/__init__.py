"""What instances remember, as workflows of their own: conversations, and the pages of a run's journal.

Begin with `conversation.Conversation` and `pages.JournalPages`.
"""
