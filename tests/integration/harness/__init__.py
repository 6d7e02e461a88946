"""What the integration tests drive the real program with."""
