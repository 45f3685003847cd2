"""What is trained on what: each kind of prepared folder behind one Protocol, for the one loop."""
