"""What people do to a run while it goes on: pause, resume, budgets.

Begin with `steering.Steering`, `admission.Admission`, `budget.Purse`, `shares` for how parts of a run spend it, and
`shared` for budgets that runs share, which `keeper` keeps.
"""
