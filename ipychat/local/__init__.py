"""Models on this machine: weights, the engine that runs them, servers that run already."""
