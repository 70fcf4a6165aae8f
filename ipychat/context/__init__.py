"""Content of the notebook for prompts: expressions, values, files, images, cells.

The functions return text or parts of messages; nothing is sent or stored here. Truncation is always
marked, and never splits a known secret: the firewall masks whole ones, or is told to let them
through.
"""
