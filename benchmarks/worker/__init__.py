"""The load generator of one instance, a process of its own: opens the system, warms up, waits for the start, sends the load.

`tasks` is what it is told, `session` what it does, `__main__` the process. It speaks JSON lines: commands on standard input,
events on standard output. When standard input ends, its owner is gone, and it ends too.
"""
