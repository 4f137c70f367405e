"""One host's server. What differs from host to host is in its environment: WSGICLUSTER_NODE_NAME."""

wsgi_app = "shop:application"
bind = "0.0.0.0:8000"
workers = 2
threads = 4

# What HAProxy asks. A stop is announced to it two seconds before it begins: longer than from one check to the next.
admin = "0.0.0.0:9100"
haproxy_agent = "0.0.0.0:9101"
drain_delay = 2

# HAProxy closes idle connections first (pool-purge-delay), so that no request is sent into one that is being closed.
keepalive = 60
forwarded_allow_ips = "10.77.0.1"
forwarded_hops = 1

# Two databases of one Redis server, at the address that leads to the one that takes writes.
store = "redis://10.77.0.2:6379/0"
bus = "redis://10.77.0.2:6379/1"
