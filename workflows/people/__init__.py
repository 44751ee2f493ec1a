"""Questions to people, and calls that wait for their answers.

May import what is shown. Begin with `people.People` and `question.Question`.
"""
