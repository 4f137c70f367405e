"""Messages between processes: of one server through mailboxes, of several machines over a bus."""
