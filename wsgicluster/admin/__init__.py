"""The admin worker: the child that responds to operators and monitoring over HTTP.

It is a client of the control protocol and asks no worker anything, so that it responds whatever the workers do.
"""
