"""Keeps the children as they are wanted: what happens to them goes into the pool, and its plan is carried out."""
