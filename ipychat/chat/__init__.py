"""A question and its answer: turns, conversations, races."""
