"""What is run to learn about the method rather than about a patient; no other layer imports it."""
