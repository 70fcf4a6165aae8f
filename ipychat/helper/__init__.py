"""The helper, which answers without a model: little, but reliably."""
