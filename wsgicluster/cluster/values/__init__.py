"""What values applications may hand over, and the bytes or text that they become."""
