"""Conditions on fields of parsed data, with the same meaning on both databases.

`operators` defines each operator in Python. `sqlite` calls these definitions from SQL, `postgresql` implements them in
SQL, and `indexed` derives preconditions that an index can answer. `containment` implements JSON containment,
`timepatterns` parses points in time, and `arguments` parses conditions from a command line.
"""
