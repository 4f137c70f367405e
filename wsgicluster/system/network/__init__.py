"""What the kernel tells of addresses and sockets, and does with them."""
