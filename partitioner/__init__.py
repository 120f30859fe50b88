"""gpu-partitioner: a provably best way to cut NVIDIA GPUs for what has to run."""
