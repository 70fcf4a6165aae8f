"""Models on this machine: weights, the engine that runs them, and servers that are running."""
