"""The admin worker: the child that answers operators and monitoring over HTTP.

It is a client of the control protocol and asks no worker anything, so that it answers whatever the workers do.
"""
