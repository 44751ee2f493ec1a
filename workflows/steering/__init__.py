"""What people do to a run while it goes on: pause, resume, budgets.

Begin with `steering.Steering`, `admission.Admission`, `budget.Purse`, and `shares` for how parts of a run spend it.
"""
