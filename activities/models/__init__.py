"""The one door to models: asking once, waiting for those that are away or asked enough, and telling errors apart.

May import values. Nothing but this imports litellm. Begin with `model.complete`, `patience.complete`,
`throttle.Throttle`, `scripted.Script`.
"""
