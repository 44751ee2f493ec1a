"""What both wings agree on: names, limits, and the messages that cross between them.

Imports nothing else of the project. Begin with `envelope.CallRequest`, `envelope.CallReply`, `conversations.Commit` and
`identity.CallId`.
"""
