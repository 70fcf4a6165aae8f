"""From names to one route: who is asked, where, and at what price."""
