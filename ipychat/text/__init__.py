"""What becomes of text: safe characters, HTML, tables, what looks like a secret."""
