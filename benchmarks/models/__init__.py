"""Models that are benchmarked: their tensors, MLPerf's latency bounds, made-up samples, and graphs with made-up weights."""
