"""The kinds of workers, and what each does its own way."""
