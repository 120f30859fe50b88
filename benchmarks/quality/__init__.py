"""Quality of measurement: what the load generators see against what is known to be true. `python -m benchmarks.quality`.

The figures say how far results can be trusted; they are none of a GPU.
"""
