"""Bytes on the wire: decoders that do no I/O, and the only HTTP client."""
