"""An application with one model, one page and its place in the admin."""
