"""One request, from the environ to the end of its response."""
