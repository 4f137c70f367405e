"""The error log and the access log: the files they go to, the loggers in front, and the format of a line."""
