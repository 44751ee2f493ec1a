"""What workers do beside calls: they end what belongs to no run, keep pages, and look after queues and attributes.

May import the contract. Begin with `cleanup.Cleanup`, `pages.Pages`, `queues`.
"""
