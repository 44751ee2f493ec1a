"""What people do to a run while it goes on: pause, resume, budgets.

Begin with `steering.Steering` and `budget.Purse`.
"""
