"""Conditions on fields of parsed data, with one meaning on both databases.

`operators` says in Python what each operator means. `sqlite` calls that from SQL, `postgresql` says the same in SQL,
and `indexed` narrows a condition to what an index finds. `containment` is JSON containment, `timepatterns` reads points
in time, and `arguments` reads conditions from a command line.
"""
