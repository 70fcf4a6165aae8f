"""The notebook's event loop: native await, interrupts, background, synchronous path."""
