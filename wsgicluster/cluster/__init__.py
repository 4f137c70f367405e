"""What arbiter and workers share beyond single messages."""
