"""A new server beside the old one (USR2), on the same listeners."""
