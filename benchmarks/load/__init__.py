"""Load: when requests are sent, what is written down of each, and whether a run counts. No network, no servers.

`System` is what answers (MLPerf: the system under test); `Load` what is asked of it; an `Engine` asks; `RequestLog` is what
was seen; `judge` says whether that is a valid run.
"""
