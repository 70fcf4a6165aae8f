"""The helper, which answers where there is no model: little, and true."""
