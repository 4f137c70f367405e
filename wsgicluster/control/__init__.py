"""How a server is seen and steered from outside: its control socket, its protocol, and what it reports.

It knows neither the arbiter, which offers what the commands do, nor how an answer is shown to people.
"""
