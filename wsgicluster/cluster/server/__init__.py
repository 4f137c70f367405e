"""The server that this process is a member of: its role, the other members, and what it can ask the arbiter for."""
