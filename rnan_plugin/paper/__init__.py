"""What the paper says: tasks, image sets, tables."""
