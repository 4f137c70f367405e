"""The steward: the child that runs the cluster code of the configuration file, and sends events elsewhere.

It exists only where there is something for it to do. It knows neither workers nor the arbiter.
"""
