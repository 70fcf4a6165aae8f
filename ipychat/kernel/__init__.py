"""The notebook's loop: awaiting a magic natively, one running answer, the synchronous path."""
