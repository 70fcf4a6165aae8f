"""Questions and answers: turns, conversations, races."""
