"""What a model may run: the notebook's functions and the kernel's own tools."""
