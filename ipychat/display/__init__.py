"""What the user sees: an answer in its cell or in a terminal, and the panel."""
