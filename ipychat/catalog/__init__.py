"""From names to routes: which model is asked, where, with which key and at what price."""
