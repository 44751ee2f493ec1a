"""The one door to models: asking once, waiting for those that are not to be had, and telling errors apart.

May import values. Nothing but this imports litellm. Begin with `model.complete`, `patience.complete`,
`scripted.Script`.
"""
