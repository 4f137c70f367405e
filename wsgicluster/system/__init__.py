"""What only the operating system tells or does: the layer that another one would have to provide anew."""
