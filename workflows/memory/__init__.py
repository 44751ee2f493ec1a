"""What instances remember, as workflows of their own: conversations, and the pages of a run's journal.

Begin with `conversation.Conversation`, `pages.JournalPages`, and `positions.Positions` for where a run knows its
instances to stand.
"""
