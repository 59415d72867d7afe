"""PREDICT-GBM, the benchmark of recurrences (arXiv 2509.13360): its container's folders, and its coverage."""
