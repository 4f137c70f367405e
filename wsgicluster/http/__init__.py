"""HTTP/1.1 without I/O: bytes in, environs and framing out (RFC 9110, RFC 9112).

No module here may know a socket, a clock, a setting or a log.
"""
